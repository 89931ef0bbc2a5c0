"""Batches follow from lengths and budget alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.embed.batches import embed_in_batches, padded, token_batches

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


@given(LENGTHS, BUDGETS)
def test_vectors_come_back_in_the_order_of_the_texts(lengths: list[int], budget: int) -> None:
    rows = [np.full(length, number) for number, length in enumerate(lengths)]
    vectors = embed_in_batches(rows, budget, 1, lambda batch: np.array([[len(row)] for row in batch], dtype=np.float32))
    assert vectors[:, 0].tolist() == lengths
