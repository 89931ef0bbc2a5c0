"""Which indices a table gets, and when its files are tidied. Knows columns, not rows or places."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any

from pipelines.targets.lancedb_connection import text_analysis
from pipelines.targets.lancedb_rows import SEARCH_TEXT
from pipelines.targets.target import IndexSettings

ANN_MIN_ROWS = 10_000
"""Below this, scoring every row takes milliseconds and is exact, so no graph is built."""

Table = Any  # lancedb is untyped at this border


def build_text_index(table: Table, settings: IndexSettings) -> None:
    """Made on the empty table: rows that come later are found at once, though slowly until the load is finished."""
    from lancedb.index import FTS

    if SEARCH_TEXT not in _indexed(table):
        table.create_index(SEARCH_TEXT, config=FTS(**text_analysis(settings.analyzer)))


def build_indices(table: Table, settings: IndexSettings) -> None:
    """Those that are missing; rows added to existing ones come in by ``optimize``."""
    from lancedb.index import BTree, HnswSq

    build_text_index(table, settings)
    if table.count_rows() == 0:
        return
    for column in {"id", "partition", "document_id", "tenant", "doc_type"} - _indexed(table):
        table.create_index(column, config=BTree())
    if table.count_rows() >= ANN_MIN_ROWS and not has_vector_index(table):
        table.create_index(
            "vector",
            config=HnswSq(distance_type="cosine", num_partitions=1, m=settings.m,
                          ef_construction=settings.ef_construction),
        )  # fmt: skip


def has_vector_index(table: Table) -> bool:
    return "vector" in _indexed(table)


def optimize(table: Table, *, keep: timedelta) -> None:
    """Merge small files, bring new rows into the indices, and remove versions older than ``keep``."""
    with warnings.catch_warnings():
        # It warns of readers of older versions; there are none of a generation that is not live (see ``keep``).
        warnings.filterwarnings("ignore", message="optimize\\(cleanup_older_than=0\\)")
        table.optimize(cleanup_older_than=keep)


def _indexed(table: Table) -> set[str]:
    return {column for index in table.list_indices() for column in index.columns}
