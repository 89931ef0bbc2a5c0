"""The comparison of what an index returns with what its parts say."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.verify import Row, compare_rows


def _rows(count: int) -> list[Row]:
    return [Row(i, f"c{i}", f"digest{i}", np.arange(4, dtype=np.float32) + i) for i in range(count)]


def _problems(found: list[Row], *, exact: bool = True) -> dict[str, int]:
    return dict(compare_rows(iter(_rows(5)), iter(found), exact=exact)[0])


def test_equal_rows_have_no_problem() -> None:
    assert _problems(_rows(5)) == {}


@pytest.mark.parametrize("gone", range(5))
def test_a_missing_row_is_missing_wherever_it_was(gone: int) -> None:
    assert _problems([row for row in _rows(5) if row.number != gone]) == {"missing": 1}


def test_a_stranger_with_a_known_number_is_strange_and_nothing_else() -> None:
    found = _rows(5)
    found.insert(3, Row(2, "stranger", "d", np.zeros(4, dtype=np.float32)))
    assert _problems(found) == {"strange": 1}


def test_a_row_stored_twice_is_strange() -> None:
    found = _rows(5)
    found.insert(2, found[1])
    assert _problems(found) == {"strange": 1}


def test_an_altered_field_and_one_altered_bit_of_a_vector_are_told_apart() -> None:
    found = _rows(5)
    found[1] = Row(1, "c1", "other", found[1].vector)
    bits = found[3].vector.view(np.int32).copy()
    bits[0] ^= 1
    found[3] = Row(3, "c3", "digest3", bits.view(np.float32))
    assert _problems(found) == {"altered": 1, "vector": 1}


def test_a_target_that_quantises_is_allowed_a_tolerance() -> None:
    found = [Row(row.number, row.id, row.digest, row.vector + np.float32(1e-4)) for row in _rows(5)]
    assert _problems(found, exact=False) == {}
    assert _problems(found) == {"vector": 5}


def test_an_empty_index_misses_everything() -> None:
    assert _problems([]) == {"missing": 5}
