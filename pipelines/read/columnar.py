"""Parquet: the declared columns of some row groups, through ranged reads. Knows no field's meaning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.document import Position
from pipelines.partition import Slice
from pipelines.ranged_file import RangedFile
from pipelines.read.conditional import read_range
from pipelines.read.reader import Broken, Record, SourceSettings
from pipelines.store import Store

_READ_BYTES = 1 << 20  # per column, so that a row group need not fit into memory
_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 1024
# What pyarrow raises for damage, depending on where it meets it: thrift and decompression give OSError.
_DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)


class Parquet:
    """Slices count row groups. A value is decoded before it can be measured, as Parquet stores pages, not records:
    one over the limit costs its own size."""

    cuttable = True

    def __init__(self, source: SourceSettings) -> None:
        self._max_bytes = source.max_document_bytes
        wanted = source.fields
        self._needed = {name for name in (wanted.id, wanted.text) if name is not None}
        others = (wanted.title, wanted.uri, wanted.doc_type, wanted.date, wanted.tenant, *wanted.metadata)
        self._declared = {*self._needed, *(name for name in others if name is not None)}

    def read(self, store: Store, piece: Slice) -> Iterator[Record | Broken]:
        source, row = RangedFile(partial(read_range, store, piece), piece.size), 0
        try:
            with pq.ParquetFile(source, buffer_size=_READ_BYTES, pre_buffer=False) as file:
                groups = range(file.num_row_groups)[piece.start : piece.end]
                row = sum(file.metadata.row_group(number).num_rows for number in range(piece.start))
                if not self._needed <= set(file.schema_arrow.names):
                    yield from self._nameless(piece.key, file, groups, row)
                    return
                for batch in self._batches(file, groups):
                    yield from self._records(piece.key, batch, row)
                    row += batch.num_rows
        except _DAMAGE as error:
            if source.failure is not None:
                raise source.failure from error
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            yield Broken(Position(piece.key, row), "corrupt_parquet", f"from row {row} on: {reason}")

    def _batches(self, file: pq.ParquetFile, groups: range) -> Iterator[pa.RecordBatch]:
        names = [name for name in file.schema_arrow.names if name in self._declared]
        for number in groups:
            yield from file.iter_batches(batch_size=_batch_rows(file.metadata.row_group(number)), row_groups=[number],
                                         columns=names, use_threads=False)  # fmt: skip

    def _nameless(self, key: str, file: pq.ParquetFile, groups: range, row: int) -> Iterator[Record]:
        """Without the column of ids or texts there is nothing to read; each reject can name the columns that exist."""
        blank = dict.fromkeys(file.schema_arrow.names)
        rows = sum(file.metadata.row_group(number).num_rows for number in groups)
        for offset in range(row, row + rows):
            yield Record(Position(key, offset), blank)

    def _records(self, key: str, batch: pa.RecordBatch, row: int) -> Iterator[Record | Broken]:
        for offset, fields in enumerate(_rows(batch), start=row):
            position = Position(key, offset)
            if isinstance(fields, UnicodeDecodeError):
                yield Broken(position, "encoding", f"a string of the row is not UTF-8 ({fields.reason})")
            elif isinstance(fields, ValueError):
                yield Broken(position, "wrong_type", f"a value of the row cannot be read: {str(fields)[:200]}")
            elif (size := _stored_bytes(fields)) > self._max_bytes:
                reason = f"the row has {size:,} bytes and source.max_document_bytes is {self._max_bytes:,}"
                yield Broken(position, "too_large", reason)
            else:
                yield Record(position, fields)


def _batch_rows(group: Any) -> int:  # Any: pyarrow's RowGroupMetaData has no types
    mean_bytes = group.total_byte_size / max(1, group.num_rows)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1.0, mean_bytes))))


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any] | ValueError]:  # Any: as the columns are
    batch = batch.cast(pa.schema([field.with_type(_readable(field.type)) for field in batch.schema]), safe=False)
    try:
        return list(batch.to_pylist())
    except MemoryError:
        raise
    except Exception:  # ValueError, OverflowError, and what libraries of time zones raise
        return [_row(batch, number) for number in range(batch.num_rows)]


def _readable(kind: pa.DataType) -> pa.DataType:
    """Nanoseconds become values of pandas where that is installed, and errors where it is not."""
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    return pa.time64("us") if pa.types.is_time64(kind) else kind


def _row(batch: pa.RecordBatch, number: int) -> dict[str, Any] | ValueError:  # Any: as the columns are
    try:
        found: dict[str, Any] = batch.slice(number, 1).to_pylist()[0]
        return found
    except ValueError as error:
        return error
    except MemoryError:
        raise
    except Exception as error:
        return ValueError(f"{type(error).__name__}: {error}")


def _stored_bytes(fields: dict[str, Any]) -> int:  # Any: as the columns are
    return sum(
        len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode())
        for value in fields.values()
        if isinstance(value, str | bytes)
    )
