"""A look into a Parquet object without reading it whole: its row groups and its first rows.

Knows byte ranges and columns; knows no partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ranged_file import RangedFile
from pipelines.store import Object, Store

_BLOCK_BYTES = 64 << 10


def row_group_bytes(store: Store, one: Object) -> list[int]:
    """Stored bytes of each row group, from the footer; empty when the footer cannot be understood (what is
    wrong with it is the reader's to report).

    Raises:
        SourceChanged, Denied, StoreError: as the store says.
    """
    try:
        metadata = pq.ParquetFile(_open(store, one)).metadata
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
    ranged = _open(store, one)
    file = pq.ParquetFile(ranged, pre_buffer=False, buffer_size=_BLOCK_BYTES)
    ranged.limit(max_bytes)
    names = file.schema_arrow.names
    wanted = [name for name in columns if name in names]
    batch = next(file.iter_batches(rows, columns=wanted, use_threads=False), None) if wanted else None
    return FirstRows(batch.to_pylist() if batch is not None else [], file.metadata.num_rows, names)


def _open(store: Store, one: Object) -> RangedFile:
    return RangedFile(lambda start, end: store.get(one.key, if_match=one.etag or None, start=start, end=end), one.size)
