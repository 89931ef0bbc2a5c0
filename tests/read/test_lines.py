"""JSON Lines: broken lines, limits and ranges."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.partition import Slice
from pipelines.read.formats import open_reader
from pipelines.read.framing import split_records
from pipelines.read.reader import Broken, Record
from tests.read.objects import causes, fresh_store, listed, read_bytes, source

JSONL = source("jsonl", max_document_bytes=1024)


def test_a_broken_line_is_a_reject_at_its_offset_and_the_next_is_read() -> None:
    found = read_bytes(JSONL, "a", b'{"id": 1}\n{"id": 2\n{"id": 3}\n')
    assert causes(found) == ["ok", "broken_json", "ok"]
    assert found[1].position.offset == 10
    assert isinstance(found[1], Broken)
    assert found[1].sample == '{"id": 2'


def test_a_line_that_is_no_object_says_what_it_is() -> None:
    found = read_bytes(JSONL, "a", b'[1]\n"x"\n3\ntrue\nnull\n')
    assert [one.reason.split()[5] for one in found if isinstance(one, Broken)] == [
        "array,",
        "string,",
        "number,",
        "boolean,",
        "null,",
    ]


def test_bytes_that_are_not_utf8_reject_their_line_alone() -> None:
    assert causes(read_bytes(JSONL, "a", b'{"id": "\xff"}\n{"id": 2}\n')) == ["encoding", "ok"]


def test_half_a_surrogate_pair_is_rejected_as_encoding() -> None:
    assert causes(read_bytes(JSONL, "a", b'{"id": "\\ud800"}\n{"id": 2}\n')) == ["encoding", "ok"]


def test_a_nul_character_is_text() -> None:
    assert causes(read_bytes(JSONL, "a", b'{"id": "\\u0000"}\n')) == ["ok"]


def test_deep_nesting_is_broken_json() -> None:
    roomy = source("jsonl")
    assert causes(read_bytes(roomy, "a", b"[" * 100_000 + b'\n{"id": 2}\n')) == ["broken_json", "ok"]


def test_blank_lines_a_byte_order_mark_and_crlf_are_no_records() -> None:
    found = read_bytes(JSONL, "a", b'\xef\xbb\xbf{"id": 1}\r\n\r\n  \n{"id": 2}')
    assert [one.fields for one in found if isinstance(one, Record)] == [{"id": 1}, {"id": 2}]
    assert [one.position.offset for one in found] == [0, 19]


def test_a_record_of_exactly_the_limit_is_read_and_one_more_byte_rejects_it() -> None:
    line = b'{"t": "%s"}' % (b"x" * 1016)
    assert len(line) == 1024 + 1
    for ending in (b"\n", b"\r\n", b""):
        assert causes(read_bytes(JSONL, "a", line.replace(b"xx", b"x", 1) + ending)) == ["ok"]
        assert causes(read_bytes(JSONL, "a", line + ending)) == ["too_large"]


def test_a_record_over_the_limit_says_its_size_and_the_next_is_read() -> None:
    found = read_bytes(JSONL, "a", b'{"t": "%s"}\n{"id": 2}\n' % (b"x" * 3_000_000))
    assert causes(found) == ["too_large", "ok"]
    assert isinstance(found[0], Broken)
    assert "3,000,010 bytes" in found[0].reason
    assert "1,024" in found[0].reason
    assert found[1].position.offset == 3_000_010


def test_a_range_within_one_long_record_owns_nothing() -> None:
    data = b'{"t": "%s"}\n{"id": 2}\n' % (b"x" * 500)
    assert read_bytes(JSONL, "a", data, 100, 200) == []


def test_a_range_reads_on_past_its_end_to_finish_its_last_record() -> None:
    data = b'{"id": 1}\n{"id": 2}\n{"id": 3}\n'
    found = read_bytes(JSONL, "a", data, 10, 11)
    assert [one.fields for one in found if isinstance(one, Record)] == [{"id": 2}]


def test_a_range_that_begins_behind_the_object_is_empty() -> None:
    assert read_bytes(JSONL, "a", b'{"id": 1}\n', 500, 600) == []


LINES = st.lists(
    st.sampled_from([b"", b"{}", b'{"a": "\xc3\xbc"}', b"\xff", b"[", b"x" * 1100, b'{"b": "\\n"}', b"\r"])
)


@settings(max_examples=150, deadline=None)
@given(lines=LINES, ending=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans(), cuts=st.sets(st.integers(1, 3000)))
def test_any_cutting_into_ranges_yields_each_record_once(
    lines: list[bytes], ending: bytes, last: bool, cuts: set[int]
) -> None:
    data = ending.join(lines) + (ending if last else b"")
    store, reader = fresh_store(), open_reader(JSONL)
    whole = listed(store, "a", data)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), None]
    pieces = [Slice("a", whole.etag, whole.size, start or 0, end) for start, end in pairwise(bounds)]
    assert [one for piece in pieces for one in reader.read(store, piece)] == list(reader.read(store, whole))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400).map(lambda raw: raw.replace(b"\x00", b"\n")), size=st.integers(1, 50))
def test_frames_do_not_depend_on_the_blocks_they_come_in(data: bytes, size: int) -> None:
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    framed = list(split_records(iter(blocks), offset=0, end=None, max_bytes=20))
    assert framed == list(split_records(iter([data]), offset=0, end=None, max_bytes=20))
    assert sum(frame.size for frame in framed) == len(data)
