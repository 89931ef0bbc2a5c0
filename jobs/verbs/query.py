"""Query and evaluate the live generation. Knows no index client and no metric's formula."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.session import Session
from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import Embedder
from pipelines.errors import SettingsError
from pipelines.labelled import read_qrels, read_queries, score_run
from pipelines.search import How, Mode, best_per_document, search, search_many

_BATCH = 50
_DEPTH = 100  # documents per query that the metrics look at
_CHUNKS_PER_DOCUMENT = 5  # how many more chunks to fetch when documents were split


def query_live(session: Session, text: str, *, mode: Mode, k: int, exact: bool) -> dict[str, Any]:
    """Hits of the live generation, best first."""
    if not text.strip():
        raise SettingsError('the query is empty; give it as backhaul query CONF "some words"')
    live = session.live()
    hits = search(session.target, _embedder(session, mode), live.name, text, How(mode=mode, k=k, exact=exact))
    return {
        "generation": live.name,
        "hits": [{**asdict(hit), "metadata": hit.metadata} for hit in hits],
    }


def evaluate_live(session: Session, queries: Path, qrels: Path, *, mode: Mode, exact: bool) -> dict[str, Any]:
    """nDCG@10, recall@100 and MRR@10 by document, as fractions, from ir_measures (BEIR layout)."""
    texts, judged = read_queries(queries), read_qrels(qrels)
    asked = {query_id: texts[query_id] for query_id in judged if query_id in texts}
    if not asked:
        raise SettingsError(f"no query of {queries} is judged in {qrels}; are they of the same set?")
    live, embedder = session.live(), _embedder(session, mode)
    split = session.settings.split.method != "none"
    depth = _DEPTH * (_CHUNKS_PER_DOCUMENT if split else 1)
    run: dict[str, dict[str, float]] = {}
    ids = list(asked)
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        how = How(mode=mode, k=depth, exact=exact)
        answers = search_many(session.target, embedder, live.name, [asked[i] for i in batch], how)
        for query_id, hits in zip(batch, answers, strict=True):
            best = best_per_document(hits)[:_DEPTH]
            # Ranks, not scores: equal scores must not be broken by the evaluator in another way.
            run[query_id] = {hit.document_id: float(_DEPTH - rank) for rank, hit in enumerate(best)}
    return {
        "generation": live.name,
        "mode": mode,
        "exact": exact,
        "queries": len(asked),
        **score_run(judged, run),
    }


def _embedder(session: Session, mode: Mode) -> Embedder | None:
    return None if mode == "lexical" else open_embedder(session.settings.embed, session.settings.storage)
