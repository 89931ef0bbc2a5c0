"""Lines of a bulk: what a row becomes, and bodies that stay within bounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.targets.opensearch_lines import JSON, SMILE, Body, Form, Lines, delete_lines, form_for, index_lines, pack
from pipelines.targets.target import DeadLetter, IndexSettings
from tests.targets.opensearch_case import chunk, chunks, table, vectors

SIZES = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=12), max_size=6)  # of lines, by block


def blocks_of(sizes: list[list[int]]) -> list[Lines]:
    numbers = iter(range(1000))
    blocks = []
    for block in sizes:
        rows = [(str(number), "d", number) for number, _ in zip(numbers, block, strict=False)]
        data = b"".join(b"%d" % (row[2] % 10) * size for row, size in zip(rows, block, strict=True))
        blocks.append(Lines(rows, np.cumsum(block).tolist(), memoryview(data)))
    return blocks


def lines_in(body: Lines | Body) -> list[bytes]:
    return [bytes(body.data[begin:end]) for begin, end in pairwise([0, *body.ends])]


class TestPack:
    @given(SIZES, st.integers(1, 100), st.integers(1, 7))
    def test_bodies_keep_both_limits_and_the_order(self, sizes: list[list[int]], max_bytes: int, max_rows: int) -> None:
        blocks = blocks_of(sizes)
        bodies = list(pack(blocks, lambda: max_bytes, max_rows))
        assert [row for body in bodies for row in body.rows] == [row for lines in blocks for row in lines.rows]
        assert [line for body in bodies for line in lines_in(body)] == [
            line for lines in blocks for line in lines_in(lines)
        ]
        for body in bodies:
            assert len(body.rows) == len(body.ends)
            assert body.ends[-1] == len(body.data)
            assert 1 <= len(body) <= max_rows
            assert len(body) == 1 or len(body.data) <= max_bytes

    @given(SIZES, st.integers(1, 100))
    def test_no_two_neighbours_would_fit_into_one(self, sizes: list[list[int]], max_bytes: int) -> None:
        for body, following in pairwise(pack(blocks_of(sizes), lambda: max_bytes, 1000)):
            assert len(body.data) + following.ends[0] > max_bytes

    def test_a_bound_that_shrinks_holds_for_the_next_body(self) -> None:
        bounds = iter([100] + [20] * 100)
        bodies = list(pack(blocks_of([[10] * 15, [10] * 5]), lambda: next(bounds)))
        assert [len(body) for body in bodies] == [10, 2, 2, 2, 2, 2]

    @given(st.lists(st.integers(1, 60), min_size=1), st.data())
    def test_some_lines_of_a_body_are_a_body_of_them(self, sizes: list[int], data: st.DataObject) -> None:
        (body,) = pack(blocks_of([sizes]), lambda: 10**6)
        numbers = sorted(data.draw(st.sets(st.integers(0, len(sizes) - 1))))
        some = body.only(numbers)
        assert lines_in(some) == [lines_in(body)[number] for number in numbers]
        assert some.rows == [body.rows[number] for number in numbers]
        halves = body.halves()
        assert len(halves) == min(2, len(sizes))
        assert b"".join(half.data for half in halves) == body.data
        assert [row for half in halves for row in half.rows] == body.rows


def lines_of(made: pa.Table, form: Form) -> tuple[list[Lines], list[DeadLetter]]:
    refused: list[DeadLetter] = []
    return list(index_lines(made, form, refused.append)), refused


@pytest.mark.parametrize("form", [JSON, SMILE], ids=lambda form: form.content_type)
class TestForms:
    def test_the_lines_of_a_table_are_those_of_its_rows(self, form: Form) -> None:
        made = table(chunks(0, 50))
        (whole,), _ = lines_of(made, form)
        singly = [lines for n in range(50) for lines in lines_of(made.slice(n, 1), form)[0]]
        assert whole.rows == [row for lines in singly for row in lines.rows]
        assert lines_in(whole) == [line for lines in singly for line in lines_in(lines)]

    def test_a_large_table_is_spelled_piece_by_piece(self, form: Form) -> None:
        made = table([chunk(n, text="x" * (form.table_bytes // 10)) for n in range(30)])
        blocks, _ = lines_of(made, form)
        assert len(blocks) > 2
        assert [row[2] for lines in blocks for row in lines.rows] == list(range(30))

    def test_vectors_that_are_not_finite_are_refused_and_the_others_spelled(self, form: Form) -> None:
        values = vectors(5)
        values[1, 3], values[3, 0] = np.nan, -np.inf
        made = table(chunks(0, 5), values)
        (found,), refused = lines_of(made, form)
        (wanted,), _ = lines_of(made.take([0, 2, 4]), form)
        assert [(letter.id, letter.number, letter.cause) for letter in refused] == [
            (chunk(n).id, n, "bad_vector") for n in (1, 3)
        ]
        assert (found.rows, found.ends, bytes(found.data)) == (wanted.rows, wanted.ends, bytes(wanted.data))

    def test_a_table_without_rows_has_no_lines(self, form: Form) -> None:
        assert lines_of(table(chunks(0, 3)).slice(0, 0), form) == ([], [])


def test_smile_is_for_indices_whose_source_is_whole() -> None:
    forms = [form_for(IndexSettings(target="opensearch", derived_source=value)) for value in (None, True, False)]
    assert forms == [JSON, JSON, SMILE]


def test_json_spells_the_vectors_bits() -> None:
    values = np.array([[1e-45, -0.0, 0.1, 1 / 3, 3.4028235e38, -1.1754944e-38, 16777217, 2**-24]], np.float32)
    (lines,), _ = lines_of(table(chunks(0, 1), values), JSON)
    action, document = map(orjson.loads, bytes(lines.data).splitlines())
    assert action == {"index": {"_id": chunk(0).id}}
    assert np.array(document["vector"], np.float32).tobytes() == values.tobytes()


def test_deletes_are_lines_of_their_own() -> None:
    (body,) = pack(delete_lines(["a", "b"]), lambda: 1000)
    assert (body.rows, bytes(body.data)) == (
        [("a", "", -1), ("b", "", -1)],
        b'{"delete":{"_id":"a"}}\n{"delete":{"_id":"b"}}\n',
    )
