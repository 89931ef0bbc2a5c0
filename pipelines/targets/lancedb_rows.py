"""How a generation's rows and its meta stand in a LanceDB table. Knows no connection and no index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.digest import canonical_json, check_format
from pipelines.document import ROW_FIELDS
from pipelines.embed.embedder import Vectors
from pipelines.errors import QueryRefused, TargetError
from pipelines.parts import TEXT_FIELDS, vectors_of
from pipelines.space import Space
from pipelines.targets.filters import METADATA, Filter, check_filters, filter_types
from pipelines.targets.target import Hit, IndexSettings, Meta, Query, ScannedRows

SEARCH_TEXT = "search_text"
HIT_FIELDS = (
    "id",
    "document_id",
    "text",
    "title",
    "uri",
    "metadata",
    "tenant",
    "doc_type",
    "date",
    "ordinal",
    "start",
    "end",
)
SCAN_FIELDS = (*ROW_FIELDS, "partition", "number", "row_digest", "vector")
_META = b"backhaul"
# Dates are text here, ISO 8601 from the longest unit to the shortest: what begins with a bound lies within it.
_AFTER_ALL = "~"
_DROPPED = b"backhaul:dropped"

_NOT_STORED = ("position", "input_digest")  # of a part: for messages and for reuse

# Two writers that merge the same new ids at once would both insert them; with a declared key the later one
# sees the earlier one's rows and updates them (seen with lancedb 0.40: 1,000 double rows without, none with).
_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}


def table_schema(meta: Meta, dimensions: int, settings: IndexSettings, uuid: str) -> pa.Schema:
    """The stored columns: those of a part less what only messages need, plus place, and the text to search.

    ``search_text`` is title and text in one column: one BM25 over both ranks better than two added up
    (SciFact nDCG@10 68.4 against 67.8).
    """
    fields = [
        field.with_metadata(_PRIMARY_KEY) if field.name == "id" else field
        for field in TEXT_FIELDS
        if field.name not in _NOT_STORED
    ]
    fields += [
        pa.field("partition", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field(SEARCH_TEXT, pa.string(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), dimensions), nullable=False),
    ]
    stored = {"meta": asdict(meta), "index": settings.deciding(), "uuid": uuid}
    return pa.schema(fields, metadata={_META: canonical_json(stored)})


def corpus_of(schema: pa.Schema) -> str | None:
    """The corpus whose generation a table is; None for a stranger's table, or one being dropped."""
    raw = (schema.metadata or {}).get(_META)
    return None if raw is None or is_dropped(schema) else str(orjson.loads(raw)["meta"]["corpus"])


def is_dropped(schema: pa.Schema) -> bool:
    return "number" in schema.names and _DROPPED in (schema.field("number").metadata or {})


def stored_meta(schema: pa.Schema, what: str) -> tuple[Meta, dict[str, Any], str]:
    """(meta, index settings, uuid) of a generation's table.

    Raises:
        NewerFormat: a later version made it.
    """
    stored = orjson.loads(schema.metadata[_META])
    check_format(stored["meta"].get("format"), what)
    meta = stored["meta"] | {"metadata_fields": tuple(stored["meta"]["metadata_fields"])}
    return Meta(**meta), stored["index"], stored["uuid"]


def must_be_same(found: pa.Schema, wanted: pa.Schema, what: str) -> None:
    """The table found under a generation's name is that generation.

    Raises:
        SpaceMismatch: it holds vectors of another Space.
        TargetError: any other difference of meta, index settings or dimensions.
    """
    there, here = stored_meta(found, what)[0], stored_meta(wanted, what)[0]
    if there.space != here.space:
        Space(**here.space).must_equal(Space(**there.space), what)
    if wrong := [*_unlike(asdict(here), asdict(there)), *differences(found, wanted, what)]:
        raise TargetError(f"{what} exists and is another generation: {'; '.join(wrong)}; "
                          "`backhaul drop CONF` removes it, then run the same command again")  # fmt: skip


def differences(found: pa.Schema, wanted: pa.Schema, what: str) -> list[str]:
    """Of index settings and columns, the vectors' dimensions among them."""
    mine, theirs = (
        {f"index.{name}": value for name, value in stored_meta(schema, what)[1].items()}
        | {"vector.dimension": schema.field("vector").type.list_size}
        | {f"column {field.name}": str(field.type) for field in schema if field.name != "vector"}
        for schema in (wanted, found)
    )
    return _unlike(mine, theirs)


def _unlike(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return [f"{name}: {mine.get(name)!r} here, {theirs.get(name)!r} there" for name in mine | theirs
            if mine.get(name) != theirs.get(name)]  # fmt: skip


def mark_dropped(table: Any) -> None:  # Any: lancedb is untyped at this border
    """One commit after which the table is no generation any more, however far its removal gets."""
    table.update_field_metadata({"path": "number", "metadata": {_DROPPED.decode(): "true"}})


def merge_batches(batches: Iterable[pa.Table], schema: pa.Schema, max_bytes: int) -> Iterator[pa.Table]:
    """Tables of the stored columns of about ``max_bytes``, each id at most once in one table (the last wins)."""
    waiting: list[pa.Table] = []
    for batch in batches:
        for piece in _pieces(batch, max_bytes):
            if waiting and sum(table.nbytes for table in waiting) + piece.nbytes > max_bytes:
                yield _once(pa.concat_tables(waiting))
                waiting = []
            waiting.append(_stored(piece, schema))
    if waiting:
        yield _once(pa.concat_tables(waiting))


def _pieces(table: pa.Table, max_bytes: int) -> Iterator[pa.Table]:
    rows = max(1, int(table.num_rows * min(1.0, max_bytes / max(1, table.nbytes))))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _stored(table: pa.Table, schema: pa.Schema) -> pa.Table:
    dimensions = schema.field("vector").type.list_size
    vectors = vectors_of(table)
    if vectors.shape[1] != dimensions:
        raise TargetError(
            f"the rows have vectors of {vectors.shape[1]} dimensions and the index takes {dimensions}; "
            "`backhaul plan CONF` makes a plan whose index fits"
        )
    title_and_text = pc.binary_join_element_wise(table["title"], table["text"], "\n")
    flat = pa.array(vectors.reshape(-1))
    columns = {
        **{name: table[name] for name in table.column_names if name in schema.names},
        SEARCH_TEXT: title_and_text,
        "vector": pa.FixedSizeListArray.from_arrays(flat, dimensions),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _once(table: pa.Table) -> pa.Table:
    """LanceDB refuses a merge in which one id comes twice."""
    last = {id_: row for row, id_ in enumerate(table["id"].to_pylist())}
    return table if len(last) == table.num_rows else table.take(pa.array(sorted(last.values())))


def scanned_rows(table: pa.Table) -> ScannedRows:
    """A page in the order of ``number``; vectors are float32[rows, dimensions], bit for bit."""
    table = table.sort_by([("number", "ascending"), ("id", "ascending")]).combine_chunks()
    rows = table.drop_columns(["vector"]).select([name for name in SCAN_FIELDS if name != "vector"]).to_pylist()
    for row in rows:
        row["metadata"] = orjson.loads(row["metadata"])
        row["row_digest"] = row["row_digest"].hex()
    column = pa.concat_arrays(table["vector"].chunks)
    flat = column.flatten().to_numpy(zero_copy_only=True)
    return ScannedRows(
        [row["id"] for row in rows], rows, np.ascontiguousarray(flat.reshape(len(rows), column.type.list_size))
    )


def hits_of(table: pa.Table, query: Query) -> list[Hit]:
    """Best first, ties by id. A vector hit scores the cosine similarity, a lexical one BM25."""
    vectors: Sequence[Vectors | None] = [None] * table.num_rows
    if "vector" in table.column_names:
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=True)
        vectors = [*flat.reshape(table.num_rows, -1)]
        table = table.drop_columns(["vector"])
    found = [_hit(row, query, vector) for row, vector in zip(table.to_pylist(), vectors, strict=True)]
    return sorted(found, key=lambda hit: (-hit.score, hit.id))


def _hit(row: dict[str, Any], query: Query, vector: Vectors | None) -> Hit:
    score = row.pop("_score", 0.0) if query.vector is None else 1.0 - row.pop("_distance")
    return Hit(**row | {"metadata": orjson.loads(row["metadata"])}, score=score, vector=vector)


def where(filters: Sequence[Filter]) -> str | None:
    """The filters as SQL, joined by AND; values are literals whatever they hold.

    Raises:
        QueryRefused: a field that is no filter.
    """
    types = filter_types({})
    for wanted in filters:
        if wanted.field.startswith(METADATA):
            raise QueryRefused(f"{wanted.field!r} is no filter of LanceDB; filter by {', '.join(types)}, "
                               "or by metadata with index.target opensearch")  # fmt: skip
    check_filters(filters, types)
    return " AND ".join(map(_condition, filters)) or None


def _condition(wanted: Filter) -> str:
    if wanted.any_of and wanted.field == "date":
        within = (_condition(Filter("date", at_least=day, at_most=day)) for day in wanted.any_of)
        return f"({' OR '.join(f'({each})' for each in within)})"
    if wanted.any_of:
        return f"`{wanted.field}` IN ({', '.join(map(literal, wanted.any_of))})"
    bounds = [(">=", wanted.at_least), ("<", None if wanted.at_most is None else wanted.at_most + _AFTER_ALL)]
    return " AND ".join(f"`{wanted.field}` {sign} {literal(value)}" for sign, value in bounds if value is not None)


def literal(value: str) -> str:
    """A SQL string literal: in DataFusion's dialect a quote is doubled and nothing else is special."""
    return "'" + value.replace("'", "''") + "'"
