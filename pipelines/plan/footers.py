"""A look into a Parquet object without reading it whole: its row groups and its first rows.

Knows byte ranges and columns; knows no partitions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.store import Object, Store

_TAIL_BYTES = 64 << 10
_BLOCK_BYTES = 64 << 10


def row_group_bytes(store: Store, one: Object) -> list[int]:
    """Stored bytes of each row group, from the footer; empty when the footer cannot be understood (what is
    wrong with it is the reader's to report).

    Raises:
        SourceChanged, Denied, StoreError: as the store says.
    """
    try:
        metadata = pq.ParquetFile(RangedFile(store, one)).metadata
    except (pa.ArrowException, OSError):
        return []
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [sum(group.column(i).total_compressed_size for i in range(group.num_columns)) for group in groups]


class FirstRows(NamedTuple):
    rows: list[dict[str, Any]]
    of: int  # rows of the whole object
    columns: list[str]  # that the object has


def first_rows(store: Store, one: Object, columns: Sequence[str], *, rows: int, max_bytes: int) -> FirstRows:
    """Up to ``rows`` rows of the object, in those of ``columns`` that it has.

    Raises:
        OSError: they cannot be had for ``max_bytes`` beyond the footer.
        pyarrow.ArrowException: the object is no Parquet file.
        SourceChanged, Denied, StoreError: as the store says.
    """
    ranged = RangedFile(store, one)
    file = pq.ParquetFile(ranged, pre_buffer=False, buffer_size=_BLOCK_BYTES)
    ranged.limit(max_bytes)
    names = file.schema_arrow.names
    wanted = [name for name in columns if name in names]
    batch = next(file.iter_batches(rows, columns=wanted, use_threads=False), None) if wanted else None
    return FirstRows(batch.to_pylist() if batch is not None else [], file.metadata.num_rows, names)


class RangedFile(io.RawIOBase):
    """An object as a seekable file: ranged reads, conditional on its ETag. The tail is fetched once."""

    def __init__(self, store: Store, one: Object) -> None:
        self._store = store
        self._object = one
        self._position = 0
        self._tail_start = max(0, one.size - _TAIL_BYTES)
        self._tail = b""
        self._left: int | None = None

    def limit(self, max_bytes: int) -> None:
        """From here on, reading more than ``max_bytes`` raises OSError."""
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._object.size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = self._position
        end = self._object.size if size is None or size < 0 else min(start + size, self._object.size)
        data = self._bytes(start, end) if end > start else b""
        self._position = start + len(data)
        return data

    def _bytes(self, start: int, end: int) -> bytes:
        if start >= self._tail_start:
            self._tail = self._tail or self._get(self._tail_start, self._object.size)
            return self._tail[start - self._tail_start : end - self._tail_start]
        if self._left is not None:
            self._left -= end - start
            if self._left < 0:
                raise OSError(f"the first rows of {self._object.key} take more bytes than a sample may")
        return self._get(start, end)

    def _get(self, start: int, end: int) -> bytes:
        return self._store.get(self._object.key, if_match=self._object.etag or None, start=start, end=end)
