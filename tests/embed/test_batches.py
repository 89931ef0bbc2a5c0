"""Batches follow from lengths and budget alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.batches import Budget, embed_in_batches, padded, token_batches
from pipelines.embed.embedder import TokenIds, Vectors

LENGTHS = st.lists(st.integers(0, 600), max_size=200)
BUDGETS = st.integers(64, 20_000)


@given(LENGTHS, BUDGETS)
def test_every_text_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    assert sorted(i for batch in token_batches(lengths, budget) for i in batch) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
def test_a_padded_batch_keeps_the_budget_unless_it_is_one_text(lengths: list[int], budget: int) -> None:
    for batch in token_batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@given(LENGTHS, BUDGETS)
def test_lengths_fall_from_batch_to_batch(lengths: list[int], budget: int) -> None:
    order = [lengths[i] for batch in token_batches(lengths, budget) for i in batch]
    assert order == sorted(lengths, reverse=True)


@given(LENGTHS, BUDGETS)
def test_a_batch_is_not_closed_while_the_next_text_fits(lengths: list[int], budget: int) -> None:
    batches = token_batches(lengths, budget)
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(1, max(lengths[i] for i in batch)) > budget


def test_padding_is_masked() -> None:
    ids, mask = padded([np.array([5, 6, 7]), np.array([8])], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_length_is_rounded_up_to_a_multiple() -> None:
    ids, mask = padded([np.array([5, 6, 7])], pad_id=9, multiple=4)
    assert ids.tolist() == [[5, 6, 7, 9]]
    assert mask.tolist() == [[1, 1, 1, 0]]


def texts(lengths: Sequence[int]) -> list[TokenIds]:
    return [np.full(length, number, dtype=np.int32) for number, length in enumerate(lengths)]


class Device:
    """Gives each text's length and number; refuses batches of more than ``holds`` tokens, when they are started or when
    they are waited for."""

    def __init__(self, holds: int = 1 << 30, *, late: bool = False) -> None:
        self.holds, self.late, self.under_way, self.most = holds, late, 0, 0
        self.sizes: list[int] = []

    def __call__(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        size = len(rows) * max(len(row) for row in rows)
        self.sizes.append(size)
        if size > self.holds and not self.late:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def wait() -> Vectors:
            self.under_way -= 1
            if size > self.holds:
                raise RuntimeError("bad_alloc")
            return np.array([[len(row), row[0] if len(row) else -1] for row in rows], dtype=np.float32)

        return wait


@given(LENGTHS, BUDGETS, st.integers(1, 4))
def test_vectors_come_back_in_the_order_of_the_texts(lengths: list[int], budget: int, under_way: int) -> None:
    device = Device()
    vectors = embed_in_batches(texts(lengths), Budget(budget), 2, device, under_way)
    assert vectors[:, 0].tolist() == lengths
    assert device.most <= under_way
    assert device.under_way == 0


@given(LENGTHS, BUDGETS)
def test_lengths_of_a_multiple_make_few_shapes_of_batches(lengths: list[int], budget: int) -> None:
    shapes: set[tuple[int, int]] = set()

    def submit(rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        shapes.add((len(rows), -(-max(len(row) for row in rows) // 16) * 16))
        return lambda: np.zeros((len(rows), 1), dtype=np.float32)

    embed_in_batches(texts(lengths), Budget(budget), 1, submit, multiple=16)
    full = {length for _, length in shapes}
    assert len(shapes) <= len(full) + 1  # the last one may be smaller


@given(LENGTHS, st.integers(600, 20_000), st.integers(600, 20_000), st.booleans(), st.integers(1, 3))
def test_out_of_memory_makes_batches_smaller_and_loses_no_text(lengths: list[int], asked: int, holds: int, late: bool,
                                                             under_way: int) -> None:  # fmt: skip
    budget, device = Budget(asked), Device(holds, late=late)
    vectors = embed_in_batches(texts(lengths), budget, 2, device, under_way)
    assert vectors[:, 0].tolist() == lengths
    assert all(number in (at, -1) for at, number in enumerate(vectors[:, 1].tolist()))
    assert budget.refusals <= 5 + (under_way if late else 0)
    assert budget.reduced == any(size > holds for size in device.sizes)


@pytest.mark.parametrize("holds", [16_000, 9_000, 4_000, 1_500, 512])
def test_the_budget_settles_within_five_refusals_and_stays(holds: int) -> None:
    budget, device = Budget(16_384), Device(holds)
    for _ in range(4):
        embed_in_batches(texts([200] * 500), budget, 2, device)
    assert budget.refusals <= 5
    settled = device.sizes[-50:]
    assert max(settled) <= holds
    assert max(settled) >= min(holds, 16_384) // 2 - 200


def test_a_budget_grows_again_when_memory_does() -> None:
    budget, device = Budget(4_096), Device(1_100)
    embed_in_batches(texts([100] * 200), budget, 2, device)
    assert budget.tokens == 1_000
    device.holds = 1 << 30
    for _ in range(150):
        embed_in_batches(texts([100] * 500), budget, 2, device)
    assert not budget.reduced
    assert budget.refusals == 2


def test_a_budget_that_grew_too_far_goes_back_to_what_held() -> None:
    budget, device = Budget(4_096), Device(2_200)
    for _ in range(100):
        embed_in_batches(texts([100] * 500), budget, 2, device)
    assert budget.tokens == 2_000
    assert budget.refusals <= 5


def test_one_text_that_is_too_much_for_memory_raises_what_the_device_said() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        embed_in_batches(texts([300]), Budget(256), 2, Device(200))


def test_another_error_is_not_tried_again() -> None:
    calls = 0

    def broken(rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        nonlocal calls
        calls += 1
        raise ValueError("what is this?")

    with pytest.raises(ValueError, match="what is this"):
        embed_in_batches(texts([10, 20]), Budget(64), 2, broken)
    assert calls == 1
