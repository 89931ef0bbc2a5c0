"""What the benchmarks of embedding compute before and after they measure."""

from __future__ import annotations

import pytest

from tests.benchmarks.limits import Shape
from tests.benchmarks.profile_path import Watch
from tests.benchmarks.spread import spread
from tests.benchmarks.texts import LONGEST, SHORTEST, made_texts, mixed_lengths, share_of, uniform_lengths

MINILM = Shape(layers=6, width=384, inner=1536)


class Words:
    """A tokenizer whose tokens are words, and one before and behind each text."""

    special_tokens = 2


def test_a_token_costs_two_operations_a_weight_and_four_a_key() -> None:
    weights = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert MINILM.operations([1]) == 2 * weights + 6 * 4 * 384
    assert MINILM.operations([10, 10]) == 20 * (2 * weights + 6 * 4 * 384 * 10)


def test_mixed_lengths_have_a_heavy_tail_and_as_many_tokens_as_asked() -> None:
    lengths = mixed_lengths(256, 50_000)
    assert lengths == mixed_lengths(256, 50_000)
    assert SHORTEST <= min(lengths) <= 10
    assert 1000 <= max(lengths) <= LONGEST
    assert 50_000 <= sum(min(length, 256) for length in lengths) < 50_256
    assert 0.02 < sum(length > 500 for length in lengths) / len(lengths) < 0.1


def test_a_token_of_uniform_lengths_costs_what_one_of_mixed_lengths_does() -> None:
    mixed = [min(length, 256) for length in mixed_lengths(256, 50_000)]
    uniform = uniform_lengths(mixed, 256)
    assert sum(uniform) == pytest.approx(sum(mixed), rel=0.01)
    costs = [MINILM.operations(lengths) / sum(lengths) for lengths in (mixed, uniform)]
    assert costs[0] == pytest.approx(costs[1], rel=0.001)


def test_made_texts_have_the_lengths_asked_for_with_special_tokens() -> None:
    texts = made_texts(["a", "b"], [5, 9], Words())  # type: ignore[arg-type]
    assert [len(text.split()) + Words.special_tokens for text in texts] == [5, 9]


@pytest.mark.parametrize("shares", [1, 2, 8])
def test_shares_cover_every_text_once_and_keep_like_lengths_together(shares: int) -> None:
    lengths = [7 * n % 250 for n in range(1000)]
    parts = [share_of(lengths, number, shares) for number in range(shares)]
    assert sorted(i for part in parts for i in part) == list(range(1000))
    assert share_of(lengths, shares, shares) == parts[0]
    ordered = sorted(lengths[i] for i in parts[0])
    assert (
        max(
            b - a
            for block in range(0, len(ordered), 32)
            for a, b in [(ordered[block], ordered[min(block + 31, len(ordered) - 1)])]
        )
        <= 40
    )


def test_a_share_of_eight_is_within_that_of_four() -> None:
    lengths = [7 * n % 250 for n in range(1000)]
    for number in range(8):
        assert set(share_of(lengths, number, 8)) <= set(share_of(lengths, number, 4))


def test_a_spread_is_median_least_and_most() -> None:
    assert spread([3.0, 1.0, 2.04], 1) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_seconds_within_are_not_counted_twice() -> None:
    watch = Watch()
    inner = watch.on("inner", lambda: sum(range(200_000)))
    watch.on("outer", lambda: [inner(), inner()])()
    assert set(watch.seconds) == {"inner", "outer"}
    assert watch.seconds["outer"] < watch.seconds["inner"]
