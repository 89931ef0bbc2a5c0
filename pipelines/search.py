"""Lexical, vector and hybrid search of one generation. Knows no index client, service or metric.

Hybrid is fused here unless the target does it by the same formula, so that it means the same on every target.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np

from pipelines.embed.embedder import Embedder, Vectors
from pipelines.errors import NoGeneration, QueryRefused
from pipelines.space import Space
from pipelines.targets.filters import Filter
from pipelines.targets.target import Hit, IndexTarget, Query, Rank

Mode = Literal["lexical", "vector", "hybrid"]
Fusion = Literal["rrf", "weighted"]

RANK_CONSTANT = 60
"""k of reciprocal rank fusion, as in Cormack, Clarke and Büttcher, SIGIR 2009."""

CANDIDATES = 100
"""What each side of a fusion gives at least; so many rows are grouped by document at least."""

_BARE_FROM = 2  # times as many candidates as hits
_SIDES = ("lexical", "vector")
_QUERIES_PER_REQUEST = 64


class Searched(Protocol):
    """What of an IndexTarget a search needs."""

    @property
    def fuses(self) -> bool: ...

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]: ...

    def rows(self, name: str, hits: Sequence[Hit], *, with_vectors: bool = False, deadline_s: float | None = None,
             ) -> list[Hit]: ...  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How to search, whatever is asked.

    Args:
        k: hits wanted, after the first ``skip``.
        exact: score every row instead of walking the graph; says nothing about the lexical side.
        filters: conditions that every hit meets, within the vector search too.
        by_document: the best hit of each document alone, of the candidates.
        fusion: of a hybrid search: by reciprocal ranks, or by scores brought to [0, 1] and weighted.
        lexical_weight: share of the lexical side in a weighted fusion, the vector side has the rest.
        candidates: rows that each side of a fusion gives, and that are grouped; more where ``skip + k`` is more.
            With another number of candidates a fused order is another one, so all pages of an answer need the same.
        with_vectors: hits bring their vectors.
    """

    mode: Mode = "hybrid"
    k: int = 10
    skip: int = 0
    exact: bool = False
    filters: tuple[Filter, ...] = ()
    by_document: bool = False
    fusion: Fusion = "rrf"
    lexical_weight: float = 0.5
    candidates: int = CANDIDATES
    with_vectors: bool = False

    def __post_init__(self) -> None:
        if self.k < 1 or self.skip < 0:
            raise QueryRefused(f"k is {self.k} and skip {self.skip}; ask for at least one hit, after none or more")
        if self.mode not in get_args(Mode):
            raise QueryRefused(f"mode {self.mode!r} is unknown; choose {', '.join(get_args(Mode))}")
        if self.fusion not in get_args(Fusion) or not 0 <= self.lexical_weight <= 1:
            raise QueryRefused(f"fusion {self.fusion!r} with {self.lexical_weight} is unknown; choose rrf, or weighted "
                               "with a share of the lexical side from 0 to 1")  # fmt: skip

    @property
    def depth(self) -> int:
        """Rows that each side is asked for."""
        wanted = self.skip + self.k
        return max(wanted, self.candidates) if self.by_document or self.mode == "hybrid" else wanted


def search(target: IndexTarget, embedder: Embedder | None, generation: str, text: str, how: How) -> list[Hit]:
    """At most ``how.k`` hits for one text; see ``search_many``."""
    return search_many(target, embedder, generation, [text], how)[0]


def search_many(target: IndexTarget, embedder: Embedder | None, generation: str, texts: Sequence[str], how: How,
                ) -> list[list[Hit]]:  # fmt: skip
    """``search_vectors`` of the texts' own vectors.

    Args:
        embedder: may be None for mode ``lexical`` alone.

    Raises:
        QueryRefused: no embedder where one is needed.
        SpaceMismatch: the generation holds vectors of another Space than the embedder's.
    """
    if how.mode == "lexical":
        return search_vectors(target, generation, texts, None, how)
    if embedder is None:
        raise QueryRefused("vector and hybrid search need an embedder; use mode lexical without one")
    must_hold(target, generation, embedder.space)
    if not texts:
        return []
    return search_vectors(target, generation, texts, embedder.embed(texts, "query"), how)


def must_hold(target: IndexTarget, generation: str, space: Space) -> None:
    """Raises NoGeneration where it is absent, SpaceMismatch where its vectors are of another Space."""
    meta = target.meta(generation)
    if meta is None:
        raise NoGeneration(f"generation {generation} does not exist; `backhaul list CONF` shows those that do")
    Space(**meta.space).must_equal(space, f"generation {generation}")


def search_vectors(target: Searched, generation: str, texts: Sequence[str | None], vectors: Vectors | None, how: How,
                   *, deadline_s: float | None = None) -> list[list[Hit]]:  # fmt: skip
    """One list of at most ``how.k`` hits for each query, best first; equal scores are ordered by id.

    Args:
        generation: a concrete name (``target.live``), so that all parts of an answer come from one index.
        texts: None where a query has none: a vector search needs none.
        vectors: float32[len(texts), dimensions] in the generation's Space; None for mode ``lexical``.
        deadline_s: seconds that the index may take, for all of them.

    Scores are the target's own; for ``hybrid`` the sum of 1 / (60 + rank) over both sides, or the weighted sum of both
    sides' scores, each brought to [0, 1] by its lowest and highest among the candidates.

    Raises:
        QueryRefused: a filter by a field that is none, a text or a vector is missing.
        NoGeneration: it is absent.
        TargetError: the index could not be reached.
    """
    until = None if deadline_s is None else time.monotonic() + deadline_s
    in_target = how.mode == "hybrid" and how.fusion == "rrf" and target.fuses
    # Most candidates are not among the hits, and reading their rows takes longer than finding them.
    bare = not in_target and not how.by_document and how.depth >= _BARE_FROM * how.k
    queries = [
        query
        for row, text in enumerate(texts)
        for query in _queries(text, None if vectors is None else vectors[row], how, in_target, bare)
    ]
    answers = [
        hits
        for start in range(0, len(queries), _QUERIES_PER_REQUEST)
        for hits in target.search(generation, queries[start : start + _QUERIES_PER_REQUEST], deadline_s=_left(until))
    ]
    if how.mode == "hybrid" and not in_target:
        answers = [_fused(answers[row : row + 2], how) for row in range(0, len(answers), 2)]
    rankings = (_ordered(hits) for hits in answers)
    grouped = (best_per_document(hits) if how.by_document else hits for hits in rankings)
    found = [[_placed(hit, rank, how) for rank, hit in enumerate(hits[how.skip : how.skip + how.k], start=how.skip + 1)]
             for hits in grouped]  # fmt: skip
    if not bare:
        return found
    return [target.rows(generation, hits, with_vectors=how.with_vectors, deadline_s=_left(until)) for hits in found]


def fuse(rankings: Sequence[Sequence[Hit]], most: int | None = None) -> list[Hit]:
    """Reciprocal rank fusion: a hit scores the sum of 1 / (60 + rank) over the rankings that hold it, ranks from 1.

    Which ranking comes first makes no difference to scores. Hits say where each side of a hybrid search had them.
    """
    worth = [[1.0 / (RANK_CONSTANT + rank) for rank in range(1, len(each) + 1)] for each in rankings]
    return _summed(rankings, worth, most)


def fuse_weighted(rankings: Sequence[Sequence[Hit]], weights: Sequence[float], most: int | None = None) -> list[Hit]:
    """A hit scores the weighted sum of its scores, each brought to [0, 1] within its ranking (min-max, as in OpenSearch's
    normalization processor); where all scores of a ranking are equal, they count as 1."""
    worth = [[weight * share for share in _shares(each)] for each, weight in zip(rankings, weights, strict=True)]
    return _summed(rankings, worth, most)


def best_per_document(hits: Iterable[Hit]) -> list[Hit]:
    """The first hit of each document, in order: what a document's best chunk says of it. Two tenants may each have a
    document of one id."""
    best: dict[tuple[str | None, str], Hit] = {}
    for hit in hits:
        best.setdefault((hit.tenant, hit.document_id), hit)
    return list(best.values())


def _left(until: float | None) -> float | None:
    """Seconds; a little always, so that the index says itself that it had none."""
    return None if until is None else max(0.001, until - time.monotonic())


def _queries(text: str | None, vector: Vectors | None, how: How, in_target: bool, bare: bool) -> list[Query]:
    if how.mode != "vector" and text is None:
        raise QueryRefused(f"a {how.mode} search needs a text")
    if how.mode != "lexical" and vector is None:
        raise QueryRefused(f"a {how.mode} search needs a vector")
    asked = Query(k=how.depth, filters=how.filters, with_vectors=how.with_vectors, bare=bare)
    lexical, nearest = replace(asked, text=text), replace(asked, vector=vector, exact=how.exact)
    if in_target:
        return [replace(nearest, text=text)]
    return {"lexical": [lexical], "vector": [nearest], "hybrid": [lexical, nearest]}[how.mode]


def _fused(sides: Sequence[Sequence[Hit]], how: How) -> list[Hit]:
    most = None if how.by_document else how.skip + how.k
    if how.fusion == "rrf":
        return fuse(sides, most)
    return fuse_weighted(sides, (how.lexical_weight, 1.0 - how.lexical_weight), most)


def _summed(rankings: Sequence[Sequence[Hit]], worth: Sequence[Sequence[float]], most: int | None) -> list[Hit]:
    """Every hit once, or the ``most`` best, the score the sum of what each ranking's places are worth."""
    found: dict[str, Hit] = {}
    scores: dict[str, float] = {}
    sources: dict[str, dict[str, Rank]] = {}
    for number, (ranking, places) in enumerate(zip(rankings, worth, strict=True)):
        for rank, (hit, place) in enumerate(zip(_ordered(ranking), places, strict=True), start=1):
            found.setdefault(hit.id, hit)
            scores[hit.id] = scores.get(hit.id, 0.0) + place
            if number < len(_SIDES):
                sources.setdefault(hit.id, {})[_SIDES[number]] = Rank(rank, hit.score)
    best = sorted(scores, key=lambda id_: (-scores[id_], id_))[:most]
    return [replace(found[id_], score=scores[id_], sources=sources.get(id_, {})) for id_ in best]


def _shares(ranking: Sequence[Hit]) -> list[float]:
    """Of the way from the lowest score to the highest, best first."""
    scores = np.array([hit.score for hit in _ordered(ranking)])
    if not len(scores):
        return []
    low, high = scores.min(), scores.max()
    return [*map(float, (scores - low) / (high - low) if high > low else np.ones_like(scores))]


def _placed(hit: Hit, rank: int, how: How) -> Hit:
    return hit if how.mode == "hybrid" else replace(hit, sources={how.mode: Rank(rank, hit.score)})


def _ordered(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))
