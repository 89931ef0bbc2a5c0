"""A part: one content-addressed Parquet file of a partition. The checkpoint unit.

Knows columns, bytes and names; knows no embedder, index or engine.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.checkpoint import part_key
from pipelines.digest import FORMAT, canonical_json, check_format, digest_bytes
from pipelines.document import ROW_FIELDS, Chunk, row_digest
from pipelines.embed.embedder import Vectors
from pipelines.errors import GateRefused, NotFound
from pipelines.ranged_file import RangedFile
from pipelines.space import ObservedMaker, Space
from pipelines.store import Store

TEXT_FIELDS = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("document_id", pa.string(), nullable=False),
    pa.field("tenant", pa.string()),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("title", pa.string(), nullable=False),
    pa.field("doc_type", pa.string()),
    pa.field("date", pa.string()),
    pa.field("metadata", pa.string(), nullable=False),  # canonical JSON object
    pa.field("ordinal", pa.int32(), nullable=False),
    pa.field("text", pa.string(), nullable=False),
    pa.field("start", pa.int64(), nullable=False),
    pa.field("end", pa.int64(), nullable=False),
    pa.field("tokens", pa.int32(), nullable=False),
    pa.field("position", pa.string(), nullable=False),  # "key@offset", for messages about duplicates
    pa.field("input_digest", pa.binary(32), nullable=False),
    pa.field("row_digest", pa.binary(32), nullable=False),
]
# A vector is one FIXED_LEN_BYTE_ARRAY of little-endian float32, or of float16 where its field says so: it reads back as one
# flat buffer, where list<float> pays for levels per element.
_DTYPE = b"dtype"  # in the metadata of that field
SCHEMA_FIELDS = (*(f.name for f in TEXT_FIELDS), "vector")
OF_PARTS_ALONE = ("input_digest", "position")  # what no index keeps


@dataclass(frozen=True, slots=True)
class Part:
    """``sha256`` names the file. ``content`` covers its row digests, ``vectors`` its row digests and bits."""

    number: int
    sha256: str
    rows: int
    documents: int
    tokens: int
    bytes: int
    content: str
    vectors: str
    maker: str
    reproducible: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def part_table(chunks: Sequence[Chunk], vectors: Vectors | NDArray[np.float16]) -> pa.Table:
    """Columns of SCHEMA_FIELDS; vectors is float32[len(chunks), dimensions], or float16, and kept so."""
    rows = [chunk.row() for chunk in chunks]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in ROW_FIELDS}
    columns["metadata"] = [canonical_json(row["metadata"]).decode() for row in rows]
    columns["position"] = [str(chunk.document.position) for chunk in chunks]
    columns["input_digest"] = [bytes.fromhex(chunk.input_digest) for chunk in chunks]
    columns["row_digest"] = [bytes.fromhex(row_digest(row)) for row in rows]
    arrays = [pa.array(columns[f.name], type=f.type) for f in TEXT_FIELDS]
    return pa.table([*arrays, _vector_column(vectors)], schema=_schema(vectors))


def encode_part(number: int, table: pa.Table, space: Space, maker: ObservedMaker) -> tuple[Part, bytes]:
    """The part and the bytes of its file, whose digest names it."""
    metadata = {"format": FORMAT, "space": space.to_json(), "maker": maker.to_json(),
                "dtype": _dtype_of(table).name}  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({"backhaul": canonical_json(metadata)}),
        buffer,
        row_group_size=2048,
        compression="zstd",
        use_dictionary=["tenant", "doc_type"],
        write_statistics=False,
    )
    data = buffer.getvalue()
    return _describe(number, data, table, maker.to_json()), data


def recognise_part(data: bytes, number: int, chunks: Sequence[Chunk], space: Space) -> Part | None:
    """The part that ``data`` is, when its rows and inputs are exactly ``chunks`` in this Space."""
    table = _read(data, f"part {number}")
    metadata = part_metadata(table)
    if (metadata["space"] == space.to_json()
            and table["input_digest"].to_pylist() == [bytes.fromhex(chunk.input_digest) for chunk in chunks]
            and table["row_digest"].to_pylist() == [bytes.fromhex(row_digest(chunk.row())) for chunk in chunks]):  # fmt: skip
        return _describe(number, data, table, metadata["maker"])
    return None


def read_part(store: Store, run_id: str, partition_id: str, part: Part) -> pa.Table:
    """The part's table, after checking its bytes against its name.

    Raises:
        NotFound: a receipt names a part that is gone.
        GateRefused: the bytes are not those that were written.
    """
    key = part_key(run_id, partition_id, part.number, part.sha256)
    try:
        data = store.get(key)
    except NotFound as error:
        raise NotFound(_loss(store, run_id, partition_id, key, _GONE)) from error
    if digest_bytes(data) != part.sha256:
        raise GateRefused(_loss(store, run_id, partition_id, key, _DAMAGED))
    return _read(data, f"{store.uri}/{key}")


def read_columns(store: Store, run_id: str, partition_id: str, part: Part, columns: Sequence[str]) -> pa.Table:
    """Some columns of a part, by ranged reads: its bytes are not checked, its row digests are.

    Raises:
        NotFound: a receipt names a part that is gone.
        GateRefused: the row digests are not those that its receipt names.
    """
    key = part_key(run_id, partition_id, part.number, part.sha256)
    source = RangedFile(lambda start, end: store.get(key, start=start, end=end), part.bytes)
    try:
        table = pq.ParquetFile(source, pre_buffer=False).read([*{*columns, "row_digest"}], use_threads=False)
    except NotFound as error:
        raise NotFound(_loss(store, run_id, partition_id, key, _GONE)) from error
    except (pa.ArrowException, OSError) as error:
        if source.failure:
            raise source.failure from error
        raise GateRefused(_loss(store, run_id, partition_id, key, _DAMAGED)) from error
    if rows_digest(table) != part.content:
        raise GateRefused(_loss(store, run_id, partition_id, key, _DAMAGED))
    return table


def part_metadata(table: pa.Table) -> dict[str, Any]:
    return dict(orjson.loads((table.schema.metadata or {})[b"backhaul"]))


def vectors_of(table: pa.Table) -> Vectors:
    """float32[rows, dimensions] of a part's vector column, exactly what it keeps; one copy at most, no per-element work."""
    column = table["vector"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    width, dtype = column.type.byte_width, _dtype_of(table)
    dimensions = width // dtype.itemsize
    flat = np.frombuffer(column.buffers()[1], dtype=dtype, offset=column.offset * width, count=len(column) * dimensions)
    return flat.reshape(len(column), dimensions).astype(np.float32, copy=False)


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows as ``Chunk.row`` gave them (metadata parsed), vectors and digests left out."""
    names = [name for name in table.column_names if name not in ("vector", *OF_PARTS_ALONE)]
    for row in table.select(names).to_pylist():
        row["metadata"] = orjson.loads(row["metadata"])
        row["row_digest"] = row["row_digest"].hex()
        yield row


def bits_digest(table: pa.Table) -> str:
    """SHA-256 over row digests and the vectors' bits, in row order."""
    return digest_bytes(b"".join(table["row_digest"].to_pylist()) + vectors_of(table).tobytes())


def rows_digest(table: pa.Table) -> str:
    """SHA-256 over the row digests, in row order."""
    return digest_bytes(b"".join(table["row_digest"].to_pylist()))


def _loss(store: Store, run_id: str, partition_id: str, key: str, what: str) -> str:
    # Planning anew would not help: an unchanged source gives the same run, whose receipt names the same part.
    return (
        f"{store.uri}/{key} {what}. Restore it, or delete runs/{run_id}/receipts/embed/{partition_id}.json and "
        f"runs/{run_id}/manifest.json there: `backhaul embed CONF` then makes it anew"
    )


_DAMAGED = "is damaged: its bytes are not those that its receipt names"
_GONE = "is gone, and a receipt names it"


def _describe(number: int, data: bytes, table: pa.Table, maker: dict[str, Any]) -> Part:
    return Part(
        number=number,
        sha256=digest_bytes(data),
        rows=table.num_rows,
        documents=table["ordinal"].to_pylist().count(0),
        tokens=sum(table["tokens"].to_pylist()),
        bytes=len(data),
        content=rows_digest(table),
        vectors=bits_digest(table),
        maker=digest_bytes(canonical_json(maker)),
        reproducible=bool(maker["reproducible"]),
    )


def _read(data: bytes, uri: str) -> pa.Table:
    table = _parquet(data).read(use_threads=False)
    check_format(part_metadata(table).get("format"), uri)
    return table


def _parquet(data: bytes) -> pq.ParquetFile:
    # Not pq.read_table: its threads abort a process that exits soon after (seen with pyarrow 26.0.1).
    return pq.ParquetFile(pa.BufferReader(data))


def _vector_column(vectors: Vectors | NDArray[np.float16]) -> pa.Array:
    flat = np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("<"))
    return pa.Array.from_buffers(pa.binary(flat.shape[1] * flat.itemsize), len(flat), [None, pa.py_buffer(flat)])


def _schema(vectors: Vectors | NDArray[np.float16]) -> pa.Schema:
    kept = None if vectors.dtype == np.float32 else {_DTYPE: vectors.dtype.name}
    width = vectors.shape[1] * vectors.itemsize
    return pa.schema([*TEXT_FIELDS, pa.field("vector", pa.binary(width), nullable=False, metadata=kept)])


def _dtype_of(table: pa.Table) -> np.dtype[Any]:
    """Of the components that the vector column keeps."""
    said = (table.schema.field("vector").metadata or {}).get(_DTYPE, b"float32")
    found: np.dtype[Any] = np.dtype(said.decode()).newbyteorder("<")
    return found
