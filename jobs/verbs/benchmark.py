"""Benchmark: which way to embed is the fastest on this machine, for this model and these texts. Embeds no corpus."""

from __future__ import annotations

from typing import Any

from jobs.session import Session
from pipelines.embed.backends import open_tokenizer
from pipelines.errors import GateRefused
from pipelines.model.choice import Choice, keep_choice
from pipelines.model.contest import Measured, best, measure, ways
from pipelines.model.originals import model_of
from pipelines.model.sample import sample_chunks

LEAST_COSINE_P1 = 0.99
_SAMPLE = 64  # documents


def benchmark(session: Session, *, sample: int = _SAMPLE) -> dict[str, Any]:
    """Measure every way that is at hand, and keep the fastest good one in the store, where ``embed.backend: auto`` finds
    it.

    Raises:
        GateRefused: none runs, or none is near enough to fp32.
    """
    s = session.settings
    model = model_of(s.embed, s.storage)
    session.say(f"sampling {s.source.uri}")
    chunks = sample_chunks(s.source, s.split, open_tokenizer(s.embed, s.storage), session.space, sample)
    texts = [chunk.input for chunk in chunks]
    found = list(measure(ways(s.embed, session.store, model.space.weights), texts, s.storage, session.say))
    winner = best(found, LEAST_COSINE_P1)
    if winner is None:
        raise GateRefused("no way to embed with this model runs here and agrees with fp32:\n  " + "\n  ".join(
            f"{one.name}: {one.failed or f'cosine p1 {one.cosine_p1:.4f}'}" for one in found)
            + "\nMake an ONNX file of it (`backhaul model export CONF`), or install the extra `torch`")  # fmt: skip
    kept = winner.settings
    choice = Choice(backend=kept.backend, precision=kept.precision, derived=kept.derived,
                    batch_tokens=kept.batch_tokens, threads=kept.threads, tokens_per_s=round(winner.tokens_per_s, 1),
                    cosine_p1=winner.cosine_p1, hardware=winner.hardware)  # fmt: skip
    keep_choice(session.store, model.space.weights, choice)
    return {
        "texts": len(texts),
        "hardware": winner.hardware,
        "threads": kept.threads,
        "ways": [_shown(one) for one in sorted(found, key=lambda one: -one.tokens_per_s)],
        "least_cosine_p1": LEAST_COSINE_P1,
        "settings": {f"embed.{name}": value for name, value in choice.settings.items() if value is not None},
    }


def _shown(one: Measured) -> dict[str, Any]:
    shown = {"backend": one.settings.backend, "precision": one.settings.precision, "derived": one.settings.derived}
    if one.failed:
        return {**shown, "failed": one.failed}
    return {**shown, "batch_tokens": one.settings.batch_tokens, "tokens_per_s": round(one.tokens_per_s, 1),
            "load_s": round(one.load_s, 2), "warm_s": round(one.warm_s, 2),
            "cosine_p1": None if one.cosine_p1 is None else round(one.cosine_p1, 6)}  # fmt: skip
