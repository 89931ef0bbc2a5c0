"""CSV and TSV: headers, quotes and ranges."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.partition import Slice
from pipelines.read.formats import open_reader
from pipelines.read.reader import Broken, Record
from tests.read.objects import causes, delimited, fresh_store, listed, read_bytes, source

CSV = source("csv", max_document_bytes=1024)
LINES = source("csv", max_document_bytes=1024, quoted_newlines=False)


def rows(found: list[Record | Broken]) -> list[list[object]]:
    return [list(one.fields.values()) for one in found if isinstance(one, Record)]


def test_newlines_commas_and_doubled_quotes_inside_quotes_are_text() -> None:
    found = read_bytes(CSV, "a", b'id,text\n1,"a\nb,""c"""\r\n2,d\n')
    assert rows(found) == [["1", 'a\nb,"c"'], ["2", "d"]]
    assert [one.position.offset for one in found] == [8, 23]


def test_a_row_that_does_not_match_the_header_is_rejected() -> None:
    found = read_bytes(CSV, "a", b"id,text\n1\n2,b\n3,c,d\n")
    assert causes(found) == ["broken_row", "ok", "broken_row"]
    assert isinstance(found[0], Broken)
    assert found[0].reason == "the row has 1 fields and the header 2"


def test_text_behind_a_closing_quote_rejects_its_row_alone() -> None:
    assert causes(read_bytes(CSV, "a", b'id,text\n1,"a" b\n2,c\n')) == ["broken_row", "ok"]


def test_a_quote_within_a_plain_field_is_a_letter() -> None:
    assert rows(read_bytes(CSV, "a", b'id,text\n1,5" disk\n2,b\n')) == [["1", '5" disk'], ["2", "b"]]


def test_a_quote_that_is_never_closed_is_one_reject_with_its_cause() -> None:
    found = read_bytes(CSV, "a", b'id,text\n1,a\n2,"b\n3,c\n')
    assert causes(found) == ["ok", "broken_row"]
    assert isinstance(found[1], Broken)
    assert "opens a quote that is never closed" in found[1].reason


def test_a_quote_that_is_never_closed_costs_no_more_than_the_limit() -> None:
    found = read_bytes(CSV, "a", b'id,text\n1,a\n2,"b\n' + b"3,c\n" * 1_000_000)
    assert causes(found) == ["ok", "too_large"]
    assert isinstance(found[1], Broken)
    assert "never closed" in found[1].reason


def test_without_quoted_newlines_an_open_quote_rejects_its_line_alone() -> None:
    assert causes(read_bytes(LINES, "a", b'id,text\n1,a\n2,"b\n3,c\n')) == ["ok", "broken_row", "ok"]


def test_a_large_quoted_field_is_passed_over_to_its_end() -> None:
    found = read_bytes(CSV, "a", b'id,text\n1,"' + b'a,"" b\n' * 1000 + b'"\n2,b\n')
    assert causes(found) == ["too_large", "ok"]


def test_a_field_of_more_than_the_csv_modules_own_limit_is_read() -> None:
    roomy = source("csv")
    assert causes(read_bytes(roomy, "a", b"id,text\n1," + b"x" * 1_000_000 + b"\n")) == ["ok"]


def test_bytes_that_are_not_utf8_reject_their_row_alone() -> None:
    assert causes(read_bytes(CSV, "a", b"id,text\n1,\xff\n2,b\n")) == ["encoding", "ok"]


def test_a_byte_order_mark_and_blank_lines_are_no_records() -> None:
    assert rows(read_bytes(CSV, "a", b"\xef\xbb\xbf\n\r\nid,text\r\n\r\n1,a\r\n")) == [["1", "a"]]


def test_a_header_that_names_a_declared_field_twice_is_refused() -> None:
    found = read_bytes(CSV, "a", b"id,text,text\n1,a,b\n")
    assert [one.reason for one in found if isinstance(one, Broken)] == ["the header names 'text' twice"]


def test_a_header_over_the_limit_ends_the_object() -> None:
    header = b"id,text," + b"x" * 2000 + b"\n"
    for start in (0, len(header)):
        assert causes(read_bytes(LINES, "a", header + b"1,a,b\n", start)) == ["too_large"]


def test_a_range_finds_a_header_longer_than_its_first_request() -> None:
    wide = source("csv", quoted_newlines=False)
    header = b"id,text," + b"x" * 200_000 + b"\n"
    found = read_bytes(wide, "a", header + b"1,a,b\n2,c,d\n", len(header) + 1)
    assert rows(found) == [["2", "c", "d"]]


def test_a_range_that_begins_before_the_header_does_not_read_it_as_a_row() -> None:
    data = b"\n\n\nid,text\n1,a\n"
    assert [rows(read_bytes(LINES, "a", data, *ends)) for ends in ((0, 2), (2, 5), (5, None))] == [
        [],
        [],
        [["1", "a"]],
    ]


CELLS = st.text(st.sampled_from('ab", \n\r\u00fc'), max_size=6).filter(lambda cell: "\r" not in cell)


@settings(max_examples=150, deadline=None)
@given(table=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=8))
def test_whatever_the_csv_module_writes_is_read_back(table: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["id", "text"], *table])
    assert rows(read_bytes(source("csv"), "a", out.getvalue().encode())) == table


@settings(max_examples=150, deadline=None)
@given(lines=st.lists(st.sampled_from([b"1,a", b'2,"b,c"', b"", b"3", b'4,"d', b"\xff,e", b"5,f\r"])),
       cuts=st.sets(st.integers(1, 80)))  # fmt: skip
def test_any_cutting_into_ranges_yields_each_row_once(lines: list[bytes], cuts: set[int]) -> None:
    data = b"\n".join([b"id,text", *lines])
    store, reader = fresh_store(), open_reader(LINES)
    whole = listed(store, "a", data)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), None]
    pieces = [Slice("a", whole.etag, whole.size, start or 0, end) for start, end in pairwise(bounds)]
    assert [one for piece in pieces for one in reader.read(store, piece)] == list(reader.read(store, whole))


def test_only_an_object_without_quoted_newlines_may_be_cut() -> None:
    assert open_reader(LINES).cuttable
    assert not open_reader(CSV).cuttable


def test_tabs_delimit_tsv() -> None:
    data = delimited([{"id": "1", "text": "a, b"}], "\t")
    assert rows(read_bytes(source("tsv"), "a", data)) == [["1", "a, b"]]
