"""Lexical, vector and hybrid search of one generation. Knows no index client, service or metric.

Hybrid is fused here unless the target does it by the same formula, so that it means the same on every target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from pipelines.embed.embedder import Embedder, Vectors
from pipelines.errors import SettingsError, TargetError
from pipelines.space import Space
from pipelines.targets.target import Hit, IndexTarget, Query

Mode = Literal["lexical", "vector", "hybrid"]
Filters = Sequence[tuple[str, str]]

RANK_CONSTANT = 60
"""k of reciprocal rank fusion, as in Cormack, Clarke and Büttcher, SIGIR 2009."""

_FUSION_DEPTH = 100  # candidates that each side gives at least
_QUERIES_PER_REQUEST = 64


def search(target: IndexTarget, embedder: Embedder | None, generation: str, text: str, *, mode: Mode, k: int,
           exact: bool = False, filters: Filters = ()) -> list[Hit]:  # fmt: skip
    """At most ``k`` hits for one text; see ``search_many``."""
    return search_many(target, embedder, generation, [text], mode=mode, k=k, exact=exact, filters=filters)[0]


def search_many(target: IndexTarget, embedder: Embedder | None, generation: str, texts: Sequence[str], *, mode: Mode,
                k: int, exact: bool = False, filters: Filters = ()) -> list[list[Hit]]:  # fmt: skip
    """One list of at most ``k`` hits for each text, best first; equal scores are ordered by id.

    Args:
        embedder: may be None for mode ``lexical`` alone.
        generation: a concrete name (``target.live``), so that all parts of an answer come from one index.
        exact: score every row instead of walking the graph; says nothing about the lexical side.
        filters: (field, value) pairs that every hit meets.

    Scores are the target's own, for ``hybrid`` the sum of 1 / (60 + rank) over both sides.

    Raises:
        SettingsError: ``k`` below 1, an unknown mode, or no embedder where one is needed.
        SpaceMismatch: the generation holds vectors of another Space than the embedder's.
        TargetError: the generation is absent, or the index could not be reached.
    """
    if k < 1:
        raise SettingsError(f"k is {k}; ask for at least one hit")
    if mode not in ("lexical", "vector", "hybrid"):
        raise SettingsError(f"mode {mode!r} is unknown; choose lexical, vector or hybrid")
    vectors = None if mode == "lexical" else _embed(target, embedder, generation, texts)
    depth = max(k, _FUSION_DEPTH) if mode == "hybrid" else k
    queries = [
        query
        for row, text in enumerate(texts)
        for query in _sides(target, text, None if vectors is None else vectors[row], mode, depth, exact, tuple(filters))
    ]
    answers = [
        hits
        for start in range(0, len(queries), _QUERIES_PER_REQUEST)
        for hits in target.search(generation, queries[start : start + _QUERIES_PER_REQUEST])
    ]
    if mode == "hybrid" and not target.fuses:
        answers = [fuse(answers[row : row + 2]) for row in range(0, len(answers), 2)]
    return [_ordered(hits)[:k] for hits in answers]


def fuse(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Reciprocal rank fusion: a hit scores the sum of 1 / (60 + rank) over the rankings that hold it, ranks from 1.

    Which ranking comes first makes no difference.
    """
    scores: dict[str, float] = {}
    found: dict[str, Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(_ordered(ranking), start=1):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1.0 / (RANK_CONSTANT + rank)
            found.setdefault(hit.id, hit)
    return _ordered(replace(hit, score=scores[id_]) for id_, hit in found.items())


def best_per_document(hits: Iterable[Hit]) -> list[Hit]:
    """The first hit of each document, in order: what a document's best chunk says of it."""
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(hit.document_id, hit)
    return list(best.values())


def _sides(target: IndexTarget, text: str, vector: Vectors | None, mode: Mode, k: int, exact: bool,
           filters: tuple[tuple[str, str], ...]) -> list[Query]:  # fmt: skip
    if mode == "hybrid" and target.fuses:
        return [Query(text=text, vector=vector, exact=exact, k=k, filters=filters)]
    lexical = Query(text=text, k=k, filters=filters)
    nearest = Query(vector=vector, exact=exact, k=k, filters=filters)
    return {"lexical": [lexical], "vector": [nearest], "hybrid": [lexical, nearest]}[mode]


def _embed(target: IndexTarget, embedder: Embedder | None, generation: str, texts: Sequence[str]) -> Vectors:
    """float32[len(texts), dimensions], in the generation's own Space or not at all."""
    if embedder is None:
        raise SettingsError("vector and hybrid search need an embedder; use mode lexical without one")
    meta = target.meta(generation)
    if meta is None:
        raise TargetError(f"generation {generation} does not exist; `backhaul list CONF` shows those that do")
    Space(**meta.space).must_equal(embedder.space, f"generation {generation}")
    if not texts:
        return np.empty((0, embedder.space.dimensions), dtype=np.float32)
    return embedder.embed(texts, "query")


def _ordered(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))
