"""Two embedders side by side, the plain one and the one that is to be used: do their vectors agree, do their rankings,
and how fast is each. Knows no backends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.embed.embedder import Role, Vectors
from pipelines.errors import GateRefused
from pipelines.labelled import Labelled, score_run

_SLICE = 256  # texts that each embeds in turn, so that a busy moment of the machine meets both
_DEPTH = 100  # documents per query that the metrics look at


Count = Callable[[Sequence[str]], int]
Report = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


class Embeds(Protocol):
    """As much of an Embedder as a comparison needs."""

    def embed(self, texts: Sequence[str], role: Role) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Agreement:
    """``cosines`` has one cosine per document, float64[n]. Rates are tokens per second, padding not counted; ``plain`` and
    ``fast`` are the metrics of ``score_run``, None where nothing was ranked."""

    cosines: NDArray[np.float64]
    tokens: int
    plain_tokens_per_s: float
    fast_tokens_per_s: float
    plain: Mapping[str, float] | None = None
    fast: Mapping[str, float] | None = None

    def cosine(self, percentile: float) -> float:
        """The cosine below which so many percent of the documents lie; 0 is the least."""
        return round(float(np.percentile(self.cosines, percentile)), 6)

    @property
    def ndcg_loss(self) -> float | None:
        """Of nDCG@10, relative: 0.01 is one percent less; negative where the fast one ranks better."""
        if self.plain is None or self.fast is None:
            return None
        return round(1 - self.fast["ndcg@10"] / self.plain["ndcg@10"], 6) if self.plain["ndcg@10"] else 0.0

    def to_json(self) -> dict[str, object]:
        ranked = {} if self.plain is None or self.fast is None else {
            "ndcg@10": {"plain": self.plain["ndcg@10"], "fast": self.fast["ndcg@10"], "relative_loss": self.ndcg_loss},
            "recall@100": {"plain": self.plain["recall@100"], "fast": self.fast["recall@100"]},
        }  # fmt: skip
        return {
            "documents": len(self.cosines),
            "cosine": {"min": self.cosine(0), "p1": self.cosine(1), "p50": self.cosine(50)},
            **ranked,
            "tokens": self.tokens,
            "tokens_per_s": {"plain": round(self.plain_tokens_per_s, 1), "fast": round(self.fast_tokens_per_s, 1)},
        }

    def must_reach(self, what: str, *, min_cosine_p1: float, max_ndcg_loss: float, mend: str = "measure again") -> None:
        """Raises GateRefused with the figures, and ``mend`` for advice, where vectors or rankings agree less than that."""
        missed = []
        if self.cosine(1) < min_cosine_p1:
            missed.append(f"cosine p1 is {self.cosine(1):.6f}, and at least {min_cosine_p1} is asked for")
        if self.ndcg_loss is not None and self.ndcg_loss > max_ndcg_loss:
            missed.append(f"nDCG@10 falls by {self.ndcg_loss:.2%}, and at most {max_ndcg_loss:.2%} is allowed")
        if missed:
            raise GateRefused(
                f"{what} does not agree well enough with the original: {'; '.join(missed)} (figures of {len(self.cosines):,} "
                f"documents). It was not kept; {mend}"
            )


def compare_texts(
    plain: Embeds, fast: Embeds, texts: Sequence[str], count: Count, report: Report = _silent
) -> Agreement:
    """Vectors of documents, compared. ``count`` tells the tokens of texts, after truncation; ``report`` is told how many of
    how many documents are done."""
    return _compare(plain, fast, texts, count, report)[0]


def compare_labelled(plain: Embeds, fast: Embeds, labelled: Labelled, count: Count,
                     report: Report = _silent) -> Agreement:  # fmt: skip
    """Vectors and rankings, compared; each ranking by exact search with the embedder's own queries and documents."""
    ids = list(labelled.documents)
    found, documents = _compare(plain, fast, list(labelled.documents.values()), count, report)
    queries = list(labelled.queries.values())
    metrics = [
        score_run(labelled.qrels, _rank(list(labelled.queries), one.embed(queries, "query"), ids, vectors))
        for one, vectors in zip((plain, fast), documents, strict=True)
    ]
    return Agreement(found.cosines, found.tokens, found.plain_tokens_per_s, found.fast_tokens_per_s, *metrics)


def _compare(plain: Embeds, fast: Embeds, texts: Sequence[str], count: Count,
             report: Report) -> tuple[Agreement, tuple[Vectors, Vectors]]:  # fmt: skip
    embedders, seconds = (plain, fast), [0.0, 0.0]
    for one in embedders:
        one.embed(texts[:1], "document")  # the first call of a runtime is slow
    vectors: tuple[list[Vectors], list[Vectors]] = ([], [])
    for start in range(0, len(texts), _SLICE):
        for i, one in enumerate(embedders):
            began = time.perf_counter()
            vectors[i].append(one.embed(texts[start : start + _SLICE], "document"))
            seconds[i] += time.perf_counter() - began
        report(min(start + _SLICE, len(texts)), len(texts))
    first, second = np.concatenate(vectors[0]), np.concatenate(vectors[1])
    tokens = count(texts)
    return Agreement(cosines_of(first, second), tokens, tokens / seconds[0], tokens / seconds[1]), (first, second)


def cosines_of(first: Vectors, second: Vectors) -> NDArray[np.float64]:
    """Of each row with its counterpart; 0 where either has no direction, which agrees with nothing."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products: NDArray[np.float64] = np.einsum("ij,ij->i", one, other)
    np.divide(products, lengths, out=products, where=lengths > 0)
    products[lengths == 0] = 0.0
    return products


def _directions(vectors: Vectors) -> Vectors:
    directions: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return directions


def _rank(
    query_ids: Sequence[str], queries: Vectors, ids: Sequence[str], documents: Vectors
) -> dict[str, dict[str, float]]:
    """The best documents of each query by cosine, scored by rank: the evaluator must not break ties its own way."""
    run = {}
    queries, documents = _directions(queries), _directions(documents)
    for start in range(0, len(query_ids), _SLICE):
        scores = queries[start : start + _SLICE] @ documents.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :_DEPTH]
        for query_id, row in zip(query_ids[start : start + _SLICE], best, strict=True):
            run[query_id] = {ids[j]: float(_DEPTH - rank) for rank, j in enumerate(row)}
    return run
