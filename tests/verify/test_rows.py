"""The comparison of what an index returns with what its parts say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.document import Chunk, Document, Position, Span
from pipelines.parts import part_table, vectors_of
from pipelines.verify.rows import Difference, Found, Wanted, compare

ROWS = 5
PARTITION = "p" * 32


def _chunk(number: int) -> Chunk:
    text = f"text {number}"
    document = Document(f"d{number}", "a.jsonl", f"title {number}", text, Position("a.jsonl", number), tenant="acme")
    return Chunk(document, 0, text, Span(0, len(text)), text, 2)


CHUNKS = [_chunk(number) for number in range(ROWS)]
TABLE: pa.Table = part_table(CHUNKS, np.arange(1, 4 * ROWS + 1, dtype=np.float32).reshape(ROWS, 4))


def _wanted() -> list[Wanted]:
    digests, vectors = TABLE["row_digest"].to_pylist(), vectors_of(TABLE)
    return [Wanted(i, CHUNKS[i].id, digests[i].hex(), vectors[i], TABLE, i) for i in range(ROWS)]


def _found() -> list[Found]:
    fields = ({**chunk.row(), "partition": PARTITION, "row_digest": row.digest}
              for chunk, row in zip(CHUNKS, _wanted(), strict=True))  # fmt: skip
    return [Found(i, CHUNKS[i].id, row, vectors_of(TABLE)[i]) for i, row in enumerate(fields)]


def _differences(found: list[Found], *, exact: bool = True) -> list[Difference]:
    return list(compare(iter(_wanted()), iter(found), PARTITION, exact=exact))


def _kinds(found: list[Found], *, exact: bool = True) -> Counter[str]:
    return Counter(difference.kind for difference in _differences(found, exact=exact))


def _with(found: Found, **fields: Any) -> Found:
    return replace(found, fields=found.fields | fields)


def test_equal_rows_have_no_difference() -> None:
    assert _differences(_found()) == []


@pytest.mark.parametrize("gone", range(ROWS))
def test_a_missing_row_is_missing_wherever_it_was(gone: int) -> None:
    assert _differences([row for row in _found() if row.number != gone]) == [
        Difference("missing", CHUNKS[gone].id, gone)
    ]


@pytest.mark.parametrize("place", [2, 3])
def test_a_stranger_with_the_number_of_another_row_is_strange_before_it_and_after_it(place: int) -> None:
    found = _found()
    found.insert(place, Found(2, "stranger", {}, found[2].vector))
    (difference,) = _differences(found)
    assert (difference.kind, difference.key, difference.number) == ("strange", "stranger", 2)


def test_a_row_stored_twice_is_strange_once() -> None:
    found = _found()
    found.insert(2, found[1])
    assert _kinds(found) == {"strange": 1}


def test_two_rows_whose_numbers_were_exchanged_are_missing_and_strange() -> None:
    found = _found()
    found[1], found[3] = replace(found[3], number=1), replace(found[1], number=3)
    assert _kinds(found) == {"missing": 2, "strange": 2}


@pytest.mark.parametrize("name", ["tenant", "text", "id", "metadata", "tokens"])
def test_an_altered_field_is_named(name: str) -> None:
    found = _found()
    found[1] = _with(found[1], **{name: "other"})
    assert _differences(found) == [Difference("altered", CHUNKS[1].id, 1, name)]


@pytest.mark.parametrize("name", ["partition", "row_digest"])
def test_what_no_digest_covers_is_compared_as_well(name: str) -> None:
    found = _found()
    found[4] = _with(found[4], **{name: [PARTITION, "other"]})
    assert _differences(found) == [Difference("altered", CHUNKS[4].id, 4, name)]


def test_a_field_that_is_absent_is_altered() -> None:
    found = _found()
    del found[0].fields["text"]
    assert _differences(found) == [Difference("altered", CHUNKS[0].id, 0, "text")]


def test_one_bit_of_a_vector_is_told_from_an_altered_field() -> None:
    found = _found()
    bits = found[3].vector.view(np.int32).copy()
    bits[0] ^= 1
    found[3] = replace(found[3], vector=bits.view(np.float32))
    assert _differences(found) == [Difference("vector", CHUNKS[3].id, 3)]


@pytest.mark.parametrize("vector", [[0, 0, 0, 0], [1, np.nan, 1, 1], [np.inf, 1, 1, 1]])
def test_a_vector_that_no_search_can_use_is_unsound_whoever_wrote_it(vector: list[float]) -> None:
    found, bad = _found(), np.array(vector, np.float32)
    found[3] = replace(found[3], vector=bad)
    assert _kinds([*found, Found(9, "stranger", {}, bad)]) == {"vector": 1, "unsound": 2, "strange": 1}


def test_a_target_that_quantises_is_allowed_a_tolerance() -> None:
    found = [replace(row, vector=row.vector + np.float32(1e-4)) for row in _found()]
    assert _kinds(found, exact=False) == {}
    assert _kinds(found) == {"vector": ROWS}


def test_an_empty_index_misses_everything() -> None:
    assert _kinds([]) == {"missing": ROWS}
