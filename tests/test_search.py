"""Search over any target: modes, fusion, Spaces, batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.document import Chunk, Document, Position, Span
from pipelines.embed.embedder import Role, Vectors
from pipelines.errors import NoGeneration, SettingsError, SpaceMismatch
from pipelines.parts import part_table
from pipelines.releases import ReleaseLog
from pipelines.search import How, best_per_document, fuse, search, search_many
from pipelines.space import ObservedMaker, RequestedMaker, Space
from pipelines.storage import StorageSettings
from pipelines.store import open_store
from pipelines.targets.filters import equals
from pipelines.targets.on_lancedb import LanceTarget
from pipelines.targets.target import Hit, IndexSettings, IndexTarget, Meta, Query

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPACE = Space("w" * 64, "t" * 64, "none", "", "", True, 512, len(LETTERS))
TEXTS = [
    "steam engines pull wagons",  # 0
    "electric motors turn wheels",  # 1
    "wagon wheels and axles",  # 2
    "qqq zzz xxx",  # 3
    "signals and points",  # 4
]


class LetterEmbedder:
    """Vectors of letter counts; remembers what it was asked."""

    maker = ObservedMaker(RequestedMaker("letters", "fp32", 1, 64), (), "any", 64)

    def __init__(self, space: Space = SPACE) -> None:
        self.space = space
        self.asked: list[tuple[list[str], Role]] = []

    def embed(self, texts: Sequence[str], role: Role, ids: object = None) -> Vectors:
        self.asked.append((list(texts), role))
        counts = np.array([[text.count(letter) for letter in LETTERS] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class TwoSides:
    """As much of a target as a search asks for, with fixed answers for its lexical and vector queries."""

    fuses = False

    def __init__(self, sides: dict[str, list[Hit]]) -> None:
        self._sides = sides

    def meta(self, name: str) -> Meta:
        return Meta("papers", "r", SPACE.to_json(), ())

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]:
        return [self._sides["lexical" if query.vector is None else "vector"][: query.k] for query in queries]

    def rows(self, name: str, hits: Sequence[Hit], *, with_vectors: bool = False, deadline_s: float | None = None,
             ) -> list[Hit]:  # fmt: skip
        return list(hits)


def chunk_of(number: int) -> Chunk:
    document = Document(f"d{number // 2}", "u", "", "", Position("k", 0), tenant="even" if number % 2 == 0 else "odd")
    return Chunk(document, number, TEXTS[number], Span(0, 1), TEXTS[number], 4)


CHUNKS = [chunk_of(number) for number in range(len(TEXTS))]
IDS = [chunk.id for chunk in CHUNKS]


@pytest.fixture(scope="module")
def target() -> IndexTarget:
    log = ReleaseLog(open_store("memory://search"), "papers")
    found = LanceTarget(IndexSettings(), f"memory://{uuid.uuid4().hex}", StorageSettings(), log)
    found.create("g", Meta("papers", "r", SPACE.to_json(), ()), len(LETTERS))
    table = part_table(CHUNKS, LetterEmbedder().embed(TEXTS, "document"))
    table = table.append_column("partition", pa.array(["p"] * len(TEXTS)))
    found.load("g", [table.append_column("number", pa.array(range(len(TEXTS))))])
    found.finish_load("g")
    return found


def ask(target: IndexTarget, text: str, *, mode: Literal["lexical", "vector", "hybrid"], **options: Any) -> list[str]:
    return [hit.id for hit in search(target, LetterEmbedder(), "g", text, How(mode=mode, **{"k": 10, **options}))]


def hit(id_: str, score: float = 1.0, document_id: str = "d") -> Hit:
    return Hit(id_, document_id, score, "text")


def test_lexical_search_finds_words_and_needs_no_embedder(target: IndexTarget) -> None:
    hits = search(target, None, "g", "wagons", How(mode="lexical"))
    assert {hit.id for hit in hits} == {IDS[0], IDS[2]}


def test_vector_search_finds_by_nearness_alone(target: IndexTarget) -> None:
    assert ask(target, "zxq", mode="vector", k=1) == [IDS[3]]


def test_queries_are_embedded_as_queries_and_together(target: IndexTarget) -> None:
    embedder = LetterEmbedder()
    search_many(target, embedder, "g", ["one", "two", "three"], How(k=2))
    assert embedder.asked == [(["one", "two", "three"], "query")]


def test_hybrid_puts_first_what_both_sides_find(target: IndexTarget) -> None:
    first = ask(target, "axle of a wagon", mode="hybrid")
    assert first[0] == IDS[2]
    assert set(first) == set(IDS)  # the vector side knows no stranger


def test_hybrid_sums_reciprocal_ranks(target: IndexTarget) -> None:
    lexical, vector = (ask(target, "wagon wheels", mode=mode) for mode in ("lexical", "vector"))
    (best, *_) = search(target, LetterEmbedder(), "g", "wagon wheels", How())
    assert best.score == pytest.approx(1 / (60 + 1 + lexical.index(best.id)) + 1 / (60 + 1 + vector.index(best.id)))


def test_hybrid_looks_deeper_than_k() -> None:
    """The best of the sum is second on both sides, so the first of each side would hide it."""
    sides = {"lexical": [hit("a", 9), hit("both", 8)], "vector": [hit("b", 9), hit("both", 8)]}
    (best,) = search(TwoSides(sides), LetterEmbedder(), "g", "any", How(k=1))
    assert best.id == "both"


@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
def test_filters_hold_for_every_hit(target: IndexTarget, mode: Literal["lexical", "vector", "hybrid"]) -> None:
    assert set(ask(target, "wagon motors", mode=mode, filters=(equals("tenant", "odd"),))) <= {IDS[1], IDS[3]}


@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
def test_many_texts_answer_as_one_by_one(target: IndexTarget, mode: Literal["lexical", "vector", "hybrid"]) -> None:
    texts = [f"{TEXTS[n % 5]} {n}" for n in range(150)]
    answers = search_many(target, LetterEmbedder(), "g", texts, How(mode=mode, k=3, exact=True))
    assert [[hit.id for hit in hits] for hits in answers[::29]] == [
        ask(target, text, mode=mode, k=3, exact=True) for text in texts[::29]
    ]


def test_no_texts_have_no_answers(target: IndexTarget) -> None:
    assert search_many(target, LetterEmbedder(), "g", [], How(k=3)) == []


def test_another_space_is_refused_before_anything_is_embedded(target: IndexTarget) -> None:
    embedder = LetterEmbedder(replace(SPACE, weights="x" * 64, pooling="cls"))
    with pytest.raises(SpaceMismatch, match=r"(?s)generation g .*weights: .*pooling: "):
        search(target, embedder, "g", "wagons", How(k=3))
    assert embedder.asked == []


def test_an_absent_generation_is_named(target: IndexTarget) -> None:
    with pytest.raises(NoGeneration, match="nowhere"):
        search(target, LetterEmbedder(), "nowhere", "wagons", How(mode="vector", k=3))


@pytest.mark.parametrize(
    ("wrong", "said"), [({"k": 0}, "at least one"), ({"mode": "fuzzy"}, "lexical, vector, hybrid")]
)
def test_a_request_without_sense_is_refused(target: IndexTarget, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        search(target, LetterEmbedder(), "g", "wagons", How(**{"mode": "vector", "k": 3, **wrong}))


def test_vector_search_without_an_embedder_is_refused(target: IndexTarget) -> None:
    with pytest.raises(SettingsError, match="embedder"):
        search(target, None, "g", "wagons", How(mode="vector", k=3))


def test_fusion_orders_equal_scores_by_id() -> None:
    assert [found.id for found in fuse([[hit("b")], [hit("a")]])] == ["a", "b"]


ranking = st.lists(st.sampled_from(LETTERS), unique=True, max_size=12).map(
    lambda ids: [hit(id_, score=-rank) for rank, id_ in enumerate(ids)]
)


@given(ranking, ranking)
def test_fusion_is_the_same_whichever_side_comes_first(left: list[Hit], right: list[Hit]) -> None:
    assert [(h.id, h.score) for h in fuse([left, right])] == [(h.id, h.score) for h in fuse([right, left])]


@given(ranking)
def test_fusing_one_ranking_keeps_its_order(only: list[Hit]) -> None:
    assert [h.id for h in fuse([only])] == [h.id for h in only]


@given(ranking, ranking)
def test_fusion_neither_loses_nor_doubles_a_hit(left: list[Hit], right: list[Hit]) -> None:
    fused = [h.id for h in fuse([left, right])]
    assert sorted(fused) == sorted({h.id for h in [*left, *right]})


def test_the_best_chunk_speaks_for_its_document() -> None:
    hits = [hit("a", 3, "x"), hit("b", 2, "y"), hit("c", 1, "x")]
    assert [found.id for found in best_per_document(hits)] == ["a", "b"]
