"""Vectors of a part: what no embedder takes is a reject, and its neighbours are embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipelines.document import Chunk, Document, Position, Span
from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import Role, TextsRefused, Vectors
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.sound import embed_sound
from pipelines.errors import GateRefused, StoreError
from pipelines.ledger import Ledger
from pipelines.rejects import Rejects

HASH = open_embedder(EmbedSettings(backend="hash", dimensions=16, threads=1))


class Touchy:
    """An embedder that raises what ``refuse`` gives for the texts of a call, and counts its calls."""

    def __init__(self, refuse: Callable[[Sequence[str]], BaseException | None]) -> None:
        self.space, self.maker = HASH.space, HASH.maker
        self.calls: list[int] = []
        self._refuse = refuse

    def embed(self, texts: Sequence[str], role: Role, ids: object = None) -> Vectors:
        self.calls.append(len(texts))
        if error := self._refuse(texts):
            raise error
        vectors = HASH.embed(texts, role).copy()
        vectors[[i for i, text in enumerate(texts) if "nan" in text]] = np.nan
        vectors[[i for i, text in enumerate(texts) if "zero" in text]] = 0.0
        return vectors


def poison(texts: Sequence[str]) -> BaseException | None:
    return ValueError("what is this?") if any("poison" in text for text in texts) else None


def rows(*texts: str) -> list[Chunk]:
    return [Chunk(Document(f"d{i}", "a", "", text, Position("a.jsonl", i)), 0, text, Span(0, len(text)), text, 1)
            for i, text in enumerate(texts)]  # fmt: skip


def embed(embedder: Touchy, chunks: list[Chunk]) -> tuple[list[str], Vectors, Ledger, Rejects]:
    ledger, rejects = Ledger(), Rejects()
    sound, vectors = embed_sound(embedder, chunks, ledger, rejects)
    return [chunk.text for chunk in sound], vectors, ledger, rejects


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_text_that_no_embedder_takes_is_a_reject_and_the_others_are_embedded_without_it(at: int) -> None:
    texts = [f"text {i}" for i in range(6)]
    chunks = rows(*texts[:at], "poison", *texts[at:])
    kept, vectors, _, rejects = embed(Touchy(poison), chunks)
    assert kept == texts
    assert (vectors == HASH.embed(texts, "document")).all()
    assert rejects.counts == {"poison_chunk": 1}
    assert "embedding chunk 0 raised ValueError: what is this?" in rejects.lines[0].decode()
    assert f"a.jsonl@{at}" in rejects.lines[0].decode()


def test_the_rest_is_embedded_in_one_call_so_that_batches_follow_from_its_texts() -> None:
    embedder = Touchy(poison)
    embed(embedder, rows("a", "poison", "b", "poison", "c"))
    assert embedder.calls[0] == 5
    assert embedder.calls[-1] == 3


def test_a_part_of_one_poison_text_has_no_rows() -> None:
    kept, vectors, _, rejects = embed(Touchy(poison), rows("poison"))
    assert (kept, vectors.shape, rejects.counts) == ([], (0, 16), {"poison_chunk": 1})


def test_an_embedder_that_takes_nothing_is_no_texts_fault() -> None:
    with pytest.raises(ValueError, match="broken"):
        embed(Touchy(lambda texts: ValueError("broken") if texts else None), rows("a", "b"))


def test_many_rows_none_of_which_is_taken_are_no_texts_fault() -> None:
    with pytest.raises(ValueError, match="what is this"):
        embed(Touchy(poison), rows(*["poison"] * 40))


def test_an_error_that_goes_with_no_single_text_is_raised() -> None:
    with pytest.raises(ValueError, match="too many"):
        embed(Touchy(lambda texts: ValueError("too many") if len(texts) > 2 else None), rows("a", "b", "c"))


def test_an_error_that_does_not_come_back_rejects_nothing_and_is_raised() -> None:
    errors = iter([ValueError("once")])
    embedder = Touchy(lambda texts: next(errors, None))
    with pytest.raises(ValueError, match="once"):
        embed(embedder, rows("a", "b"))


@pytest.mark.parametrize(
    "error", [MemoryError(), StoreError("the endpoint is away"), RuntimeError("CUDA out of memory")]
)
def test_what_the_machine_is_to_blame_for_rejects_nothing(error: Exception) -> None:
    embedder = Touchy(lambda texts: error if any("poison" in text for text in texts) else None)
    with pytest.raises(type(error)):
        embed(embedder, rows("a", "poison"))
    assert embedder.calls == [2]


def test_texts_that_an_embedder_names_are_rejects_and_nothing_is_asked_for_twice() -> None:
    texts = ["a", "refused", "b"]
    embedder = Touchy(lambda texts: TextsRefused({1: "400 too long"}, HASH.embed(texts, "document")))
    kept, vectors, _, rejects = embed(embedder, rows(*texts))
    assert kept == ["a", "b"]
    assert (vectors == HASH.embed(["a", "b"], "document")).all()
    assert rejects.counts == {"poison_chunk": 1}
    assert b"embedding chunk 0: 400 too long" in rejects.lines[0]
    assert embedder.calls == [3]


def test_rows_without_a_sound_vector_are_rejects_and_counted() -> None:
    kept, vectors, ledger, rejects = embed(Touchy(poison), rows("a", "nan", "b", "zero", "poison"))
    assert kept == ["a", "b"]
    assert (vectors == HASH.embed(["a", "b"], "document")).all()
    assert (ledger.total.nan_vectors, ledger.total.zero_vectors, ledger.total.rejected_tokens) == (1, 1, 3)
    assert rejects.counts == {"bad_vector": 2, "poison_chunk": 1}


def test_many_rows_without_one_sound_vector_are_the_models_fault() -> None:
    with pytest.raises(GateRefused, match=r"no sound vector for 40 texts.*'d0' at a\.jsonl@0: NaN.*Check the model"):
        embed(Touchy(poison), rows(*["nan"] * 40))


def test_a_component_that_half_precision_cannot_hold_is_a_bad_vector() -> None:
    class Large(Touchy):
        def embed(self, texts: Sequence[str], role: Role, ids: object = None) -> Vectors:
            return np.where(np.array([["large" in text] for text in texts]), 1e5, 1.0).astype(np.float32)

    ledger = Ledger()
    rejects = Rejects(ledger)
    sound, vectors = embed_sound(Large(lambda texts: None), rows("small", "large"), ledger, rejects, "float16")
    assert [row.text for row in sound] == ["small"]
    assert vectors.dtype == np.float16
    assert rejects.counts == {"bad_vector": 1}
