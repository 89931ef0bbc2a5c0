"""What every Reader must do, whatever its format."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import SourceChanged
from pipelines.partition import Slice
from pipelines.read.formats import READERS, open_reader
from pipelines.read.reader import Broken, Record, SourceSettings
from pipelines.rejects import CAUSES
from tests.read.objects import Row, delimited, fresh_store, json_lines, listed, parquet, read_bytes, source

ROWS: list[Row] = [{"id": str(n), "title": f"Title {n}", "text": f"text of {n}, ümlaut"} for n in range(10)]


@dataclass(frozen=True)
class Case:
    """How a format spells rows; ``compress`` is empty for one that is not compressed as a whole."""

    settings: SourceSettings
    key: str
    data: bytes
    rows: list[Row]


def whole(name: str, text: str) -> tuple[bytes, list[Row]]:
    return text.encode(), [{"id": name, "title": "guide", "text": text}]


CASES = {
    "jsonl": Case(source("jsonl"), "a.jsonl", json_lines(ROWS), ROWS),
    "csv": Case(source("csv"), "a.csv", delimited(ROWS), ROWS),
    "csv-lines": Case(source("csv", quoted_newlines=False), "a.csv", delimited(ROWS), ROWS),
    "tsv": Case(source("tsv"), "a.tsv", delimited(ROWS, "\t"), ROWS),
    "parquet": Case(source("parquet"), "a.parquet", parquet(ROWS), ROWS),
    "text": Case(source("text"), "guide.txt", *whole("guide.txt", "Some\ntext.\n")),
    "markdown": Case(source("markdown"), "guide.md", *whole("guide.md", "Some\n\n## text\n")),
}
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def rows_of(found: list[Record | Broken]) -> list[Row]:
    assert not [one for one in found if isinstance(one, Broken)]
    return [one.fields for one in found if isinstance(one, Record)]


def test_every_format_has_a_case() -> None:
    assert {case.settings.format for case in CASES.values()} == set(READERS)


def test_all_records_come_in_order_with_their_fields(case: Case) -> None:
    assert rows_of(read_bytes(case.settings, case.key, case.data)) == case.rows


def test_positions_name_the_relative_key_and_ascend(case: Case) -> None:
    found = read_bytes(case.settings, case.key, case.data)
    assert {one.position.key for one in found} == {case.key}
    offsets = [one.position.offset for one in found]
    assert offsets == sorted(set(offsets))


def test_reading_twice_gives_the_same(case: Case) -> None:
    assert read_bytes(case.settings, case.key, case.data) == read_bytes(case.settings, case.key, case.data)


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize("name", [name for name in CASES if name != "parquet"])
def test_a_compressed_object_reads_as_the_plain_one(name: str, suffix: str) -> None:
    case = CASES[name]
    found = rows_of(read_bytes(case.settings, f"{case.key}.{suffix}", COMPRESSED[suffix](case.data)))
    assert [row["text"] for row in found] == [row["text"] for row in case.rows]


def test_an_object_overwritten_after_planning_is_refused_with_the_next_command(case: Case) -> None:
    store = fresh_store()
    piece = listed(store, case.key, case.data)
    store.put(case.key, case.data + b" ")
    with pytest.raises(SourceChanged, match=f"{case.key} .*source changed since planning; plan again.*--replan"):
        list(open_reader(case.settings).read(store, piece))


def test_an_object_deleted_after_planning_is_refused_with_the_next_command(case: Case) -> None:
    store = fresh_store()
    piece = listed(store, case.key, case.data)
    store.delete([case.key])
    with pytest.raises(SourceChanged, match=f"{case.key} .*source changed since planning; plan again.*--replan"):
        list(open_reader(case.settings).read(store, piece))


def test_an_empty_object_has_no_good_record(case: Case) -> None:
    found = read_bytes(case.settings, case.key, b"")
    assert all(isinstance(one, Broken) or not one.fields["text"] for one in found)


def test_a_cut_object_yields_each_record_once(case: Case) -> None:
    store, reader = fresh_store(), open_reader(case.settings)
    if not reader.cuttable:
        return
    plain = listed(store, case.key, case.data)
    last = 4 if case.settings.format == "parquet" else len(case.data)
    for cut in range(1, last):
        pieces = [Slice(plain.key, plain.etag, plain.size, *ends) for ends in ((0, cut), (cut, None))]
        found = [one for piece in pieces for one in reader.read(store, piece)]
        assert found == list(reader.read(store, plain)), cut


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), suffix=st.sampled_from(["", ".gz", ".zst"]), start=st.integers(0, 40))
def test_no_bytes_crash_a_reader(case: Case, data: bytes, suffix: str, start: int) -> None:
    found = read_bytes(case.settings, case.key + suffix, data, start=start)
    assert {one.cause for one in found if isinstance(one, Broken)} <= set(CAUSES)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=20), suffix=st.sampled_from(["", "gz", "zst"]))
def test_no_damage_crashes_a_reader(case: Case, at: float, junk: bytes, suffix: str) -> None:
    data = COMPRESSED[suffix](case.data) if suffix else case.data
    place = int(at * len(data))
    damaged = data[:place] + junk + data[place + len(junk) :]
    found = read_bytes(case.settings, f"{case.key}.{suffix}" if suffix else case.key, damaged)
    assert {one.cause for one in found if isinstance(one, Broken)} <= set(CAUSES)


def test_a_sample_has_at_most_200_characters(case: Case) -> None:
    found = read_bytes(case.settings, case.key, b"\xff" * 5000 + "ü".encode() * 5000)
    assert all(len(one.sample) <= 200 for one in found if isinstance(one, Broken))
