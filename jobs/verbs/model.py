"""Model: pin it into the store, export it, quantise it, compare what is to be used with the original. Embeds no corpus."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.session import Session
from pipelines.document import Chunk
from pipelines.embed.backends import open_embedder, open_tokenizer
from pipelines.errors import SettingsError
from pipelines.labelled import Labelled, read_labelled, self_made
from pipelines.model.agreement import compare_labelled
from pipelines.model.extras import has
from pipelines.model.make import Gates, Made, Place, count_tokens, export_model, quantize_model
from pipelines.model.originals import model_of, open_fp32
from pipelines.model.pin import pin_model
from pipelines.model.plot import plot_agreement
from pipelines.model.quantize import Method
from pipelines.model.sample import sample_chunks

_SAY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """BEIR's three files; all or none are given. ``limit``: documents to keep of them."""

    corpus: Path | None
    queries: Path | None
    qrels: Path | None
    limit: int | None = None

    def read(self) -> Labelled | None:
        if self.corpus is None and self.queries is None and self.qrels is None:
            return None
        if self.corpus is None or self.queries is None or self.qrels is None:
            raise SettingsError("labelled data are three files: give --corpus, --queries and --qrels")
        return read_labelled(self.corpus, self.queries, self.qrels, limit=self.limit)


def pin(session: Session, *, licence: str | None) -> dict[str, Any]:
    """The model of the settings in the store, and the settings to use from now on."""
    embed = session.settings.embed
    model_reference = embed.model
    session.say(f"reading {model_reference}")
    pinned = pin_model(
        session.store, model_reference, digest=embed.digest, storage=session.settings.storage, licence=licence
    )
    card = pinned.card
    return {
        "pinned": model_reference,
        "written": pinned.shelved.written,
        "files": len(card.files),
        "bytes": pinned.bytes,
        "weights": card.weights,
        "licence": card.licence,
        "licence_source": (card.model_extra or {})["licence_source"],
        "settings": {"embed.model": pinned.shelved.reference, "embed.digest": card.weights},
    }


def export(session: Session, *, sample: int) -> dict[str, Any]:
    """The model's fp32 ONNX file in the store."""
    place, texts = _place(session), [chunk.input for chunk in _sample(session, sample)]
    session.say(f"exporting {place.embed.model}, and comparing on {len(texts)} texts of the corpus")
    with _only_the_result():
        made = export_model(place, texts)
    return _made(made)


def quantize(session: Session, *, method: Method, sample: int, labelled: LabelledFiles, gates: Gates) -> dict[str, Any]:
    """An int8 ONNX file of the model in the store, if it agrees with the original."""
    found = labelled.read()
    count = sample + sample // 2  # a third is kept apart to measure on
    place, texts = _place(session), [chunk.input for chunk in _sample(session, count)]
    session.say(f"quantising {place.embed.model} ({method}) with a sample of the corpus")
    with _only_the_result():
        made = quantize_model(place, texts, method=method, gates=gates, labelled=found)
    return _made(made)


def compare(session: Session, *, labelled: LabelledFiles, sample: int, plot: Path | None) -> dict[str, Any]:
    """The embedder of the settings beside fp32 ``encode()``: vectors, rankings, rates."""
    place = _place(session)
    model = model_of(place.embed, place.storage)
    found = labelled.read() or self_made(_sample(session, sample))
    session.say(f"comparing on {found.name}")
    with _only_the_result():
        fast = open_embedder(place.embed, place.storage)
        plain, plain_name = open_fp32(place.store, place.embed, place.storage)
        agreement = compare_labelled(plain, fast, found, lambda texts: count_tokens(model, texts),
                                     place.report)  # fmt: skip
    requested = fast.maker.requested
    fast_name = f"{requested.backend}, {requested.precision}"
    if plot:
        plot_agreement(agreement, plot, plain=plain_name, fast=fast_name, data=found.name)
    return {
        "compared": fast_name,
        "with": plain_name,
        "data": found.name,
        "self_made": found.self_made,
        "queries": len(found.queries),
        **agreement.to_json(),
        "threads": requested.threads,
        "hardware": fast.maker.hardware,
        "plot": str(plot) if plot else None,
    }


def _place(session: Session) -> Place:
    return Place(session.store, session.settings.embed, session.settings.storage, _Progress(session))


class _Progress:
    """A line every ten seconds, and none for what takes less."""

    def __init__(self, session: Session) -> None:
        self._session, self._next_s = session, 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._next_s = self._next_s or now + _SAY_EVERY_S
        if now >= self._next_s:
            self._session.say(f"compared {done:,} of {total:,} documents")
            self._next_s = now + _SAY_EVERY_S


def _sample(session: Session, count: int) -> list[Chunk]:
    s = session.settings
    model_of(s.embed, s.storage)  # its error comes before the source is read
    session.say(f"sampling {s.source.uri}")
    tokenizer = open_tokenizer(s.embed, s.storage)
    return sample_chunks(s.source, s.split, tokenizer, session.space, count)


def _made(made: Made) -> dict[str, Any]:
    card = made.card
    return {
        "written": made.shelved.written,
        "method": (card.model_extra or {})["method"],
        "precision": card.precision,
        "sha256": card.sha256,
        "original": card.original,
        "agreement": card.agreement,
        "settings": {
            "embed.backend": "openvino" if has("openvino") else "onnx",
            "embed.derived": made.shelved.reference,
            "embed.precision": card.precision,
        },
    }


def _only_the_result() -> contextlib.AbstractContextManager[Any]:  # Any: the stream
    """Exporters and quantisers print their progress where a command prints its result."""
    return contextlib.redirect_stdout(sys.stderr)
