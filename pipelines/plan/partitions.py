"""The partitions of a plan in columns, as objects.parquet has them: each is made when it is asked for.

A million Partitions as Python values are a gigabyte, and a resumed run needs the few that are pending.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence, Set
from operator import eq
from typing import Any, overload

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.partition import Partition, Slice

_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int32()),
        pa.field("partition", pa.string()),
        pa.field("partition_key", pa.string()),  # JSON pairs
        pa.field("key", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("start", pa.int64()),
        pa.field("end", pa.int64()),
        pa.field("version", pa.string()),
    ]
)
_READ = _SCHEMA.set(2, pa.field("partition_key", pa.dictionary(pa.int32(), pa.string())))  # many have the same
_BATCH = 4096  # partitions made at once


class Partitions(Sequence[Partition]):
    """Immutable. ``rows`` holds one row per slice; partition i owns those from ``first[i]`` to before ``last[i]``."""

    def __init__(self, rows: pa.Table, first: np.ndarray, last: np.ndarray) -> None:
        self._rows = rows
        self._first = first
        self._last = last

    @classmethod
    def of(cls, partitions: Iterable[Partition]) -> Partitions:
        columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
        for partition in partitions:
            key = orjson.dumps(partition.key).decode()
            if not partition.slices:
                raise ValueError(f"partition {partition.id} has no slice")
            for piece in partition.slices:
                row = (partition.number, partition.id, key, piece.key, piece.etag, piece.size,
                       piece.start, piece.end, piece.version)  # fmt: skip
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
        return cls._of_rows(pa.table(columns, schema=_SCHEMA))

    @classmethod
    def from_parquet(cls, data: bytes) -> Partitions:
        """Raises ArrowException, OSError or ValueError for bytes that ``to_parquet`` did not write."""
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=["partition_key"])
        rows = file.read(use_threads=False)  # a pool of memory each
        if not rows.schema.equals(_READ):
            raise ValueError(f"its columns are {', '.join(map(str, rows.schema))}")
        rows.validate(full=True)
        for text in pc.unique(rows["partition_key"]).to_pylist():
            _key(text)
        return cls._of_rows(rows)

    def to_parquet(self) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(self._own_rows().cast(_SCHEMA), buffer, compression="zstd")
        return buffer.getvalue()

    @property
    def ids(self) -> Iterator[str]:
        """The partitions' ids in their order, without making the partitions."""
        column = self._rows["partition"]
        for start in range(0, len(self), _BATCH):
            yield from column.take(self._first[start : start + _BATCH]).to_pylist()

    @property
    def objects(self) -> int:
        """How many objects they read."""
        return int(pc.count_distinct(self._own_rows()["key"]).as_py())

    def pending(self, committed: Set[str], only: Set[str] | None = None) -> Partitions:
        """Those that are not committed and, where ``only`` is given, are among it."""
        keep = np.fromiter(
            (one not in committed and (only is None or one in only) for one in self.ids), bool, len(self)
        )
        return Partitions(self._rows, self._first[keep], self._last[keep])

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, index: int) -> Partition: ...
    @overload
    def __getitem__(self, index: slice) -> Partitions: ...
    def __getitem__(self, index: int | slice) -> Partition | Partitions:
        if isinstance(index, slice):
            return Partitions(self._rows, self._first[index], self._last[index])
        at = range(len(self))[index]
        return next(self._made(at, at + 1))

    def __iter__(self) -> Iterator[Partition]:
        for start in range(0, len(self), _BATCH):
            yield from self._made(start, start + _BATCH)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list

    @classmethod
    def _of_rows(cls, rows: pa.Table) -> Partitions:
        numbers = rows["number"].to_numpy()
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        bounds = np.concatenate(([0], cuts, [len(numbers)])) if len(numbers) else np.zeros(1, np.int64)
        return cls(rows, bounds[:-1], bounds[1:])

    def _own_rows(self) -> pa.Table:
        numbers = _between(self._first, self._last)
        return self._rows if np.array_equal(numbers, np.arange(len(self._rows))) else self._rows.take(numbers)

    def _made(self, start: int, stop: int) -> Iterator[Partition]:
        first, last = self._first[start:stop], self._last[start:stop]
        rows = self._rows.take(_between(first, last))
        numbers, ids, keys, *columns = (column.to_pylist() for column in rows.columns)
        slices = list(map(Slice, *columns))
        at = 0
        for count in (last - first).tolist():
            yield Partition(ids[at], numbers[at], _key(keys[at]), tuple(slices[at : at + count]))
            at += count


def _between(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The numbers from ``first[i]`` to before ``last[i]``, for one i after the other."""
    counts = last - first
    return np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def _key(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in orjson.loads(text))
