"""Sampled vectors as queries: recall of the approximate search, and how long a search takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pipelines.embed.embedder import Vectors
from pipelines.manifest import Manifest, read_rows
from pipelines.parts import vectors_of
from pipelines.search import best_per_document
from pipelines.store import Store
from pipelines.targets.target import Hit, IndexTarget, Query
from pipelines.verify.gates import RECALL, Gate, told_only
from pipelines.verify.settings import VerifySettings

Ranking = list[str]  # document ids, best first


@dataclass(frozen=True, slots=True)
class Searched:
    """Sampled vectors searched exactly and approximately; ``seconds`` of each approximate search alone."""

    exact: list[list[Hit]]
    near: list[list[Hit]]
    seconds: list[float]

    @property
    def documents(self) -> list[Ranking]:
        return _documents(self.near)


def sample_vectors(store: Store, manifest: Manifest, count: int) -> Vectors:
    """float32[<= count, dimensions]: rows at even steps through the manifest, reading at most ``count`` parts."""
    wanted = np.unique(np.linspace(0, max(0, manifest.rows - 1), min(count, manifest.rows)).astype(np.int64))
    taken, first = [], 0
    for entry in manifest.entries:
        if not np.any((wanted >= first) & (wanted < first + entry.rows)):
            first += entry.rows
            continue
        for _, table in read_rows(store, entry):
            here = wanted[(wanted >= first) & (wanted < first + table.num_rows)] - first
            taken.append(vectors_of(table)[here])
            first += table.num_rows
    return np.concatenate(taken) if taken else np.zeros((0, 1), dtype=np.float32)


def search_sample(target: IndexTarget, generation: str, sample: Vectors, k: int) -> Searched:
    """The exact searches go first, so that the timed ones meet a warm index."""
    exact = target.search(generation, [Query(vector=vector, exact=True, k=k) for vector in sample])
    near, seconds = [], []
    for vector in sample:
        began = time.perf_counter()
        near += target.search(generation, [Query(vector=vector, k=k)])
        seconds.append(time.perf_counter() - began)
    return Searched(exact, near, seconds)


def search_documents(target: IndexTarget, generation: str, sample: Vectors, k: int) -> list[Ranking]:
    """What ``Searched.documents`` tells, of another generation."""
    return _documents(target.search(generation, [Query(vector=vector, k=k) for vector in sample]))


def gate_of_recall(searched: Searched, settings: VerifySettings) -> Gate:
    """recall@k of approximate against exact search, both by the index, on stored vectors as queries."""
    wanted = f">= {settings.min_recall}"
    if not searched.exact:
        return Gate("recall", True, "no rows to search", wanted)
    shares = []
    for truth, answer in zip(searched.exact, searched.near, strict=True):
        # Ties at the k-th score may go either way: an approximate hit as good as the k-th exact one is right.
        floor = truth[-1].score - 1e-6 if truth else 0.0
        right = sum(1 for hit in answer if hit.score >= floor or hit.id in {t.id for t in truth})
        shares.append(min(1.0, right / len(truth)) if truth else 1.0)
    recall = float(np.mean(shares))
    found = f"recall@{settings.recall_k} {recall:.4f} on {len(shares)} vectors"
    return Gate("recall", recall >= settings.min_recall, found, wanted, mend=RECALL)


def gate_of_latency(searched: Searched, limit_ms: float | None) -> Gate:
    """Of the approximate searches of the sample, one at a time, with the way there and back."""
    wanted = told_only(limit_ms, "p99 at most {} ms")
    if not searched.seconds:
        return Gate("latency", True, "no rows to search", wanted)
    p50, p99 = (float(value) * 1000 for value in np.percentile(searched.seconds, [50, 99]))
    found = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(searched.seconds)} searches, one at a time"
    return Gate("latency", limit_ms is None or p99 <= limit_ms, found, wanted,
                mend="look at the load of the index and verify again; or raise verify.max_p99_ms")  # fmt: skip


def _documents(answers: list[list[Hit]]) -> list[Ranking]:
    return [[hit.document_id for hit in best_per_document(hits)] for hits in answers]
