from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.plan.cuts import cut, key_hash

ITEMS = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2500)), max_size=80)


@given(ITEMS)
@settings(max_examples=200, deadline=None)
def test_pieces_cover_the_items_once_and_in_order(items: list[tuple[int, int]]) -> None:
    pieces = cut([h for h, _ in items], [w for _, w in items], 1000)
    assert [i for start, end in pieces for i in range(start, end)] == list(range(len(items)))


@given(ITEMS)
@settings(max_examples=200, deadline=None)
def test_only_a_single_item_weighs_more_than_twice_the_target(items: list[tuple[int, int]]) -> None:
    weights = [w for _, w in items]
    for start, end in cut([h for h, _ in items], weights, 1000):
        assert end - start == 1 or sum(weights[start:end]) <= 2000


def test_pieces_of_small_items_weigh_the_target_on_average_and_half_of_it_at_least() -> None:
    hashes = [key_hash(f"part-{number}") for number in range(20_000)]
    totals = [10 * (end - start) for start, end in cut(hashes, [10] * len(hashes), 1000)]
    assert min(totals) >= 500
    assert max(totals) <= 2000
    assert 850 < sum(totals) / len(totals) < 1150


def test_an_insertion_changes_only_its_neighbourhood() -> None:
    draw = random.Random(3)
    items = [(key_hash(f"part-{n}"), draw.randint(5, 400)) for n in range(5_000)]
    before = _contents(items)
    for trial in range(100):
        at = draw.randrange(len(items))
        edited = [*items[:at], (key_hash(f"new-{trial}"), draw.randint(5, 400)), *items[at:]]
        assert len(_contents(edited) - before) <= 5


def _contents(items: list[tuple[int, int]]) -> set[tuple[tuple[int, int], ...]]:
    return {tuple(items[start:end]) for start, end in cut([h for h, _ in items], [w for _, w in items], 1000)}
