"""Which indices a table gets, and when its files are tidied. Knows columns, not rows or places."""

from __future__ import annotations

import logging
import math
import warnings
from datetime import timedelta
from typing import Any

import numpy as np

from pipelines.targets.lancedb_connection import text_analysis
from pipelines.targets.lancedb_rows import SEARCH_TEXT
from pipelines.targets.lancedb_search import nearest
from pipelines.targets.target import IndexSettings, Query

log = logging.getLogger(__name__)

ANN_MIN_ROWS = 10_000
"""Below this, scoring every row takes milliseconds and is exact, so no graph is built."""

LEAST_M = 4
"""Links per node; LanceDB refuses fewer."""

# A graph is built in memory, so a big table gets several.
_ROWS_PER_GRAPH = 250_000

# A graph over vectors without neighbourhoods (random ones: recall@10 of 0.25 at 50,000 rows of 384) answers
# nonsense fast. It is measured on some rows when built, and not kept below this.
_LEAST_RECALL = 0.9
_SAMPLED_ROWS = 24
_REFUSED = "backhaul:graph_refused_at_rows"

Table = Any  # lancedb is untyped at this border


def build_text_index(table: Table, settings: IndexSettings) -> None:
    """Made on the empty table: rows that come later are found at once, though slowly until the load is finished."""
    from lancedb.index import FTS

    if SEARCH_TEXT not in _indexed(table):
        table.create_index(SEARCH_TEXT, config=FTS(**text_analysis(settings.analyzer)))


def build_indices(table: Table, settings: IndexSettings) -> None:
    """Those that are missing; rows added to existing ones come in by ``optimize``."""
    from lancedb.index import BTree

    build_text_index(table, settings)
    rows = table.count_rows()
    if rows == 0:
        return
    for column in {"id", "partition", "document_id", "tenant", "doc_type"} - _indexed(table):
        table.create_index(column, config=BTree())
    refused_at = (table.schema.field("vector").metadata or {}).get(_REFUSED.encode())
    if rows >= ANN_MIN_ROWS and not has_graph(table) and refused_at != str(rows).encode():
        _build_graph(table, settings, rows)


def has_graph(table: Table) -> bool:
    return "vector" in _indexed(table)


def optimize(table: Table, *, keep: timedelta) -> None:
    """Merge small files, bring new rows into the indices, and remove versions older than ``keep``."""
    with warnings.catch_warnings():
        # It warns of readers of older versions; there are none of a generation that is not live (see ``keep``).
        warnings.filterwarnings("ignore", message="optimize\\(cleanup_older_than=0\\)")
        table.optimize(cleanup_older_than=keep)


def _build_graph(table: Table, settings: IndexSettings, rows: int) -> None:
    from lancedb.index import HnswSq

    table.create_index(
        "vector",
        config=HnswSq(distance_type="cosine", num_partitions=math.ceil(rows / _ROWS_PER_GRAPH), m=settings.m,
                      ef_construction=settings.ef_construction),
    )  # fmt: skip
    recall = _recall(table, settings, rows)
    if recall < _LEAST_RECALL:
        for index in table.list_indices():
            if "vector" in index.columns:
                table.drop_index(index.name)
        table.update_field_metadata({"path": "vector", "metadata": {_REFUSED: str(rows)}})
        log.warning(
            "%s: approximate search would find %.2f of the ten nearest rows, so every search will be exact; "
            "a greater index.ef_search or index.m may help, unless the vectors are random",
            table.name, recall,
        )  # fmt: skip


def _recall(table: Table, settings: IndexSettings, rows: int) -> float:
    """recall@10 of the graph against all rows, with stored vectors as queries."""
    offsets = sorted(set(np.linspace(0, rows - 1, _SAMPLED_ROWS).astype(int).tolist()))
    shares = []
    for vector in table.take_offsets(offsets).select(["vector"]).to_arrow()["vector"].to_pylist():
        query = Query(vector=np.asarray(vector, dtype=np.float32))
        found, true = (nearest(table, query, exact=exact, ef=settings.ef_search) for exact in (False, True))
        # By distance, not by id: rows of equal vectors may stand for each other.
        farthest = max(true["_distance"].to_pylist()) + 1e-6
        shares.append(sum(distance <= farthest for distance in found["_distance"].to_pylist()) / true.num_rows)
    return float(np.mean(shares))


def _indexed(table: Table) -> set[str]:
    return {column for index in table.list_indices() for column in index.columns}
