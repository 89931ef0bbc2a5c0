"""Parquet: row groups, columns and damage."""

from __future__ import annotations

import datetime
import hashlib
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import MemoryStore

from pipelines.errors import SourceChanged
from pipelines.read.columnar import Parquet
from pipelines.read.reader import Broken, Record
from pipelines.store import ObjectStore
from tests.read.objects import causes, fresh_store, listed, parquet, read_bytes, source

ROWS = [{"id": n, "text": f"text {n}", "unused": "x" * 50} for n in range(10)]
PARQUET = source("parquet")


def table_bytes(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_a_slice_counts_row_groups_and_offsets_count_rows_of_the_file() -> None:
    found = read_bytes(PARQUET, "a", parquet(ROWS, rows_per_group=3), 1, 3)
    assert [one.position.offset for one in found] == [3, 4, 5, 6, 7, 8]
    assert [one.fields["id"] for one in found if isinstance(one, Record)] == [3, 4, 5, 6, 7, 8]


def test_only_declared_columns_are_read() -> None:
    found = read_bytes(PARQUET, "a", parquet(ROWS))
    assert all(set(one.fields) == {"id", "text"} for one in found if isinstance(one, Record))


class Meter(ObjectStore):
    """The same store, counting the bytes asked for."""

    read = 0

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, end: int | None = None) -> bytes:
        data = super().get(key, if_match=if_match, start=start, end=end)
        self.read += len(data)
        return data


def test_columns_that_are_not_declared_cost_no_bytes() -> None:
    rows = [{"id": n, "text": "short", "huge": random.Random(n).randbytes(20_000)} for n in range(100)]
    meter = Meter(MemoryStore(), "memory://meter")
    piece = listed(meter, "a", parquet(rows, 50))
    assert len(list(Parquet(PARQUET).read(meter, piece))) == 100
    assert meter.read < 100_000 < 2_000_000 < piece.size


@pytest.mark.parametrize("missing", [1, 4, 8, 500])
def test_a_truncated_file_is_one_reject(missing: int) -> None:
    found = read_bytes(PARQUET, "a", parquet(ROWS)[:-missing])
    assert causes(found) == ["corrupt_parquet"]


def test_a_file_that_is_no_parquet_is_one_reject() -> None:
    assert causes(read_bytes(PARQUET, "a", b"id,text\n1,a\n" * 100)) == ["corrupt_parquet"]


def test_a_damaged_page_is_one_reject_after_the_rows_before() -> None:
    data = bytearray(parquet(ROWS, rows_per_group=5))
    second = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(1)
    at = second.dictionary_page_offset or second.data_page_offset
    data[at : at + 20] = b"\xff" * 20
    found = read_bytes(PARQUET, "a", bytes(data))
    assert causes(found) == ["ok"] * 5 + ["corrupt_parquet"]
    assert found[-1].position.offset == 5


def test_an_object_overwritten_while_it_is_read_is_refused() -> None:
    store = fresh_store()
    rows = [{"id": n, "text": hashlib.sha256(str(n).encode()).hexdigest()} for n in range(5000)]  # more than one read
    piece = listed(store, "a", parquet(rows, 1000))
    records = Parquet(PARQUET).read(store, piece)
    next(records)
    store.put("a", parquet(ROWS))
    with pytest.raises(SourceChanged, match="plan again"):
        list(records)


def test_a_string_that_is_not_utf8_rejects_its_row_alone() -> None:
    offsets, values = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc")
    table = pa.table({"id": [1, 2, 3], "text": pa.StringArray.from_buffers(3, offsets, values)})
    assert causes(read_bytes(PARQUET, "a", table_bytes(table))) == ["ok", "encoding", "ok"]


def test_a_value_over_the_limit_rejects_its_row_alone() -> None:
    small = source("parquet", max_document_bytes=1024)
    rows = [{"id": 1, "text": "ü" * 600}, {"id": 2, "text": "ü" * 500}]
    assert causes(read_bytes(small, "a", parquet(rows))) == ["too_large", "ok"]


def test_nanoseconds_are_cut_to_what_python_can_tell() -> None:
    dated = source("parquet", fields={"date": "when"})
    table = pa.table({"id": [1], "text": ["a"], "when": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))})
    [found] = read_bytes(dated, "a", table_bytes(table))
    assert isinstance(found, Record)
    assert type(found.fields["when"]) is datetime.datetime
    assert found.fields["when"].isoformat() == "2023-11-14T22:13:20.123456"


def test_an_instant_that_python_cannot_tell_rejects_its_row_alone() -> None:
    dated = source("parquet", fields={"date": "when"})
    table = pa.table({"id": [1, 2], "text": ["a", "b"], "when": pa.array([2**60, 0], pa.timestamp("us"))})
    assert causes(read_bytes(dated, "a", table_bytes(table))) == ["wrong_type", "ok"]


def test_without_the_text_column_each_row_names_the_columns_that_exist() -> None:
    found = read_bytes(source("parquet", fields={"text": "body"}), "a", parquet(ROWS))
    assert len(found) == 10
    assert all(isinstance(one, Record) and set(one.fields) == {"id", "text", "unused"} for one in found)
    assert not any(isinstance(one, Broken) for one in found)


def test_a_time_zone_that_nobody_knows_rejects_rows_and_not_the_partition() -> None:
    dated = source("parquet", fields={"date": "when"})
    table = pa.table({"id": [1, 2], "text": ["a", "b"], "when": pa.array([0, None], pa.timestamp("us", "No/Where"))})
    assert causes(read_bytes(dated, "a", table_bytes(table))) == ["wrong_type", "ok"]
