"""Ways to embed, measured on this machine and on the user's own texts: how fast each is, and how near to fp32.

Each runs in a process of its own, as a worker would, so that none has another's threads or memory beside it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

from pipelines.embed.backends import open_embedder, open_tokenizer
from pipelines.embed.embedder import Vectors
from pipelines.embed.settings import EmbedSettings, Precision
from pipelines.errors import BackhaulError
from pipelines.model.agreement import cosines_of
from pipelines.model.extras import has
from pipelines.model.shelf import find_derived
from pipelines.storage import StorageSettings
from pipelines.store import Store

# Tokens of a batch that are tried. A processor is fastest with what its caches hold, a GPU with what fills it.
_BUDGETS = {"cpu": (1_024, 2_048, 4_096), "cuda": (16_384, 65_536, 262_144)}
_ROUNDS = 2
_ROUND_S = 3.0
_PATIENCE_S = 300.0  # of loading a model and one pass over the texts


@dataclass(frozen=True, slots=True)
class Measured:
    """One way. ``tokens_per_s`` is the median of the rounds, padding not counted; ``load_s`` and ``warm_s``, what a worker
    spends before its first batch and on it; ``cosine_p1``, the cosine to fp32 below which one percent of the texts lie,
    None where there is no fp32 way. ``failed`` says why there are no figures."""

    settings: EmbedSettings
    tokens_per_s: float = 0.0
    load_s: float = 0.0
    warm_s: float = 0.0
    cosine_p1: float | None = None
    hardware: str = ""
    failed: str = ""

    @property
    def name(self) -> str:
        return f"{self.settings.backend} {self.settings.precision}"


def ways(embed: EmbedSettings, store: Store, weights: str) -> list[EmbedSettings]:
    """What may be tried with what is installed here and lies in the store for these weights; fp32 comes first."""
    files: list[tuple[str, Precision | None]] = [
        (reference, card.precision)
        for precision in ("fp32", "int8")
        for reference, card in find_derived(store, weights, precision)
    ]
    if embed.derived and embed.derived not in [reference for reference, _ in files]:
        files.append((embed.derived, None))
    ways: list[dict[str, Any]] = []
    if has("torch", "sentence_transformers"):
        ways += [{"backend": "torch", "precision": precision, "derived": None} for precision in _torch_precisions()]
    for reference, precision in files:
        ways.append({"backend": "onnx", "precision": precision, "derived": reference})
        if has("openvino"):
            ways.append({"backend": "openvino", "precision": precision, "derived": reference})
            if precision == "fp32":
                ways.append({"backend": "openvino", "precision": "bf16", "derived": reference})
    found = [embed.model_copy(update={**way, "remote": None}) for way in ways]
    return sorted(found, key=lambda way: way.precision != "fp32")


def measure(found: Sequence[EmbedSettings], texts: Sequence[str], storage: StorageSettings | None,
            say: Callable[[str], None]) -> Iterator[Measured]:  # fmt: skip
    """Each way with its best budget, in turn; the first fp32 one that runs is what the others are compared with."""
    plain: Vectors | None = None
    for way in found:
        say(f"measuring {way.backend} {way.precision or ''}".rstrip())
        measured, vectors = _in_a_process(way, texts, storage)
        if plain is None and vectors is not None and measured.settings.precision == "fp32":
            plain = vectors
        cosine = None if plain is None or vectors is None else float(np.percentile(cosines_of(plain, vectors), 1))
        yield replace(measured, cosine_p1=cosine)


def best(measured: Sequence[Measured], least_cosine_p1: float) -> Measured | None:
    """The fastest whose vectors are near enough to fp32, or, where there is nothing to compare with, have a card."""
    fit = [one for one in measured if not one.failed and (one.cosine_p1 is None or one.cosine_p1 >= least_cosine_p1)]
    return max(fit, key=lambda one: one.tokens_per_s, default=None)


def _in_a_process(way: EmbedSettings, texts: Sequence[str],
                  storage: StorageSettings | None) -> tuple[Measured, Vectors | None]:  # fmt: skip
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, way, list(texts), storage), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_PATIENCE_S):
            return Measured(way, failed=f"no figures within {_PATIENCE_S:.0f} s"), None
        answer: tuple[Measured, Vectors | None] = ours.recv()
        return answer
    except EOFError:
        process.join(10)
        return Measured(way, failed=f"its process ended ({process.exitcode}); it may need more memory"), None
    finally:
        if process.is_alive():
            process.terminate()
        process.join()


def _run(pipe: Connection, way: EmbedSettings, texts: list[str], storage: StorageSettings | None) -> None:
    try:
        pipe.send(_measure_here(way, texts, storage))
    except BackhaulError as error:
        pipe.send((Measured(way, failed=str(error)), None))
    except Exception as error:  # whatever a runtime says of a processor or a file that it does not like
        pipe.send((Measured(way, failed=f"{type(error).__name__}: {error}"[:500]), None))


def _measure_here(way: EmbedSettings, texts: list[str],
                  storage: StorageSettings | None) -> tuple[Measured, Vectors | None]:  # fmt: skip
    began = time.perf_counter()
    embedder = open_embedder(way, storage)
    ready = time.perf_counter()
    vectors = embedder.embed(texts, "document")
    warm = time.perf_counter()
    limit = embedder.space.max_tokens
    tokens = sum(min(count, limit) for count in open_tokenizer(way, storage).count(texts))
    budgets = _BUDGETS["cuda" if _on_gpu(way) else "cpu"]
    rates: dict[int, list[float]] = {budget: [] for budget in budgets}
    for _ in range(_ROUNDS):
        for budget in budgets:
            again = embedder.with_batch_tokens(budget)  # type: ignore[attr-defined]  # all ways here compute locally
            begun = done = time.perf_counter()
            passes = 0
            while done - begun < _ROUND_S / len(budgets) or not passes:
                again.embed(texts, "document")
                passes, done = passes + 1, time.perf_counter()
            rates[budget].append(passes * tokens / (done - begun))
    fastest = max(budgets, key=lambda budget: median(rates[budget]))
    settings = way.model_copy(update={"batch_tokens": fastest, "precision": embedder.maker.requested.precision})
    return Measured(settings, median(rates[fastest]), ready - began, warm - ready,
                    hardware=embedder.maker.hardware), vectors  # fmt: skip


def _torch_precisions() -> tuple[str, ...]:
    import torch

    return ("fp32", "bf16", "fp16") if torch.cuda.is_available() else ("fp32", "bf16")


def _on_gpu(way: EmbedSettings) -> bool:
    if way.backend != "torch":
        return False
    import torch

    return bool(torch.cuda.is_available())
