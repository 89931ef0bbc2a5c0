"""One query against one LanceDB table: lexical, by the graph, or by every row. Knows no generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipelines.targets.filters import Filter, equals
from pipelines.targets.lancedb_rows import HIT_FIELDS, SEARCH_TEXT, hits_of, where
from pipelines.targets.target import Hit, Query

# A table of several graphs (see lancedb_indices) is walked in up to this many of them.
_PROBES = 20

# The graph holds vectors in 8 bits: twice k candidates are fetched and scored again in float32, which also makes
# approximate scores comparable with exact ones. On 45,106 sentences of SciFact (MiniLM, m 16, ef 128): recall@10
# 0.995 at 4.4 ms and 24 MB; without it 0.989; a graph of float32 0.994 and 73 MB.
_REFINE = 2
# Rows are fetched in lots, and equal scores ordered by id within them: so the first hits of a longer answer are those of
# a shorter one, up to this many, whatever the table did with a tie at its cut.
_LOT = 128
_ROWS_OF_A_DOCUMENT = 100_000  # LanceDB sorts nothing itself

Table = Any  # lancedb is untyped at this border


def answer(table: Table, query: Query, *, graph: bool, ef: int) -> list[Hit]:
    """At most ``query.k`` hits; ``graph`` says whether the table has one."""
    lot = replace(query, k=-(-query.k // _LOT) * _LOT)
    return _answer(table, lot, graph=graph, ef=ef)[: query.k]


def _answer(table: Table, query: Query, *, graph: bool, ef: int) -> list[Hit]:
    if query.vector is None:
        return hits_of(_lexical(table, query), query)
    if graph and not query.exact:
        found = nearest(table, query, exact=False, ef=ef)
        if found.num_rows == query.k:
            return hits_of(found, query)
        # The walk met too few rows inside the filter: there are few of them, so score each.
    return hits_of(nearest(table, query, exact=True, ef=ef), query)


def nearest(table: Table, query: Query, *, exact: bool, ef: int) -> pa.Table:
    """HIT_FIELDS and ``_distance`` (1 less the cosine) of the rows nearest to ``query.vector``, filters inside."""
    found = table.search(query.vector, vector_column_name="vector").distance_type("cosine")
    found = found.select([*_fields(query), "_distance"]).limit(query.k)
    if condition := where(query.filters):
        found = found.where(condition, prefilter=True)
    if exact:
        return found.bypass_vector_index().to_arrow()
    return found.ef(max(ef, _REFINE * query.k)).nprobes(_PROBES).refine_factor(_REFINE).to_arrow()


def _lexical(table: Table, query: Query) -> pa.Table:
    from lancedb.query import MatchQuery

    found = table.search(MatchQuery(query.text or "", SEARCH_TEXT), query_type="fts")
    found = found.select([*_fields(query), "_score"]).limit(query.k)
    if condition := where(query.filters):
        found = found.where(condition, prefilter=True)
    return found.to_arrow()


def chunks(table: Table, document_id: str, filters: Sequence[Filter], limit: int) -> list[Hit]:
    """The first rows of a document by ordinal."""
    found = table.search().where(where((equals("document_id", document_id), *filters))).select(list(HIT_FIELDS))
    rows = found.limit(_ROWS_OF_A_DOCUMENT).to_arrow().sort_by([("ordinal", "ascending"), ("id", "ascending")])
    return sorted(hits_of(rows.slice(0, limit), Query()), key=lambda hit: (hit.ordinal, hit.id))


def _fields(query: Query) -> tuple[str, ...]:
    return (*HIT_FIELDS, "vector") if query.with_vectors else HIT_FIELDS
