"""Rates, shares and prices of an embedding, from its attempts' timings."""

from __future__ import annotations

import pytest

from jobs.spent import over_time, rates, spent
from pipelines.embed.timing import Timing


def timing(worker: str = "w1", began_s: float = 0, elapsed_s: float = 10, *, waited_s: float = 2, computing_s: float = 7,
           tokens: int = 1000, load_s: float = 5) -> Timing:  # fmt: skip
    return Timing(f"{began_s}", worker, "host", "cpu", load_s, int(began_s * 1000), elapsed_s, waited_s, computing_s,
                  tokens, 10, 1)  # fmt: skip


def test_a_run_without_timings_has_no_figures() -> None:
    assert spent([], 0, 1.0) is None
    assert rates([]) == {"tokens_per_second": None, "waited_share": None}


def test_time_is_split_and_a_worker_loads_once_for_all_its_partitions() -> None:
    found = spent([timing(), timing(began_s=10), timing("w2", load_s=3, tokens=4000)], 3, usd_per_hour=3.6)
    assert found is not None
    assert found["seconds"] == {"loading": 8, "computing": 21, "waiting": 6, "parts": 3}
    assert (found["tokens"], found["tokens_per_second"], found["waited_share"]) == (6000, 200, 0.2)
    assert found["worker_hours"] * 3600 == pytest.approx(38, abs=0.01)
    assert found["usd_per_million_tokens"] == pytest.approx(38 * 0.001 / 6000 * 1e6, rel=1e-3)
    assert [(one["worker"], one["partitions"], one["tokens_per_second"]) for one in found["by_worker"]] == [
        ("w1", 2, 100), ("w2", 1, 400)]  # fmt: skip


def test_a_sample_stands_for_all_attempts_and_loading_is_no_ones_but_the_workers() -> None:
    found = spent([timing(), timing(began_s=10)], 20, usd_per_hour=1)
    assert found is not None
    assert (found["attempts"], found["attempts_measured"], found["tokens"]) == (20, 2, 20_000)
    assert found["seconds"] == {"loading": 5, "computing": 140, "waiting": 40, "parts": 20}
    assert found["tokens_per_second"] == 100


def test_attempts_that_embedded_nothing_have_no_price() -> None:
    found = spent([timing(tokens=0)], 1, usd_per_hour=1)
    assert found is not None
    assert (found["usd_per_million_tokens"], found["tokens_per_second"]) == (None, 0)


def test_the_rate_over_time_leaves_out_when_nobody_was_at_work_and_keeps_every_token() -> None:
    day = 86_400
    found = over_time([timing(began_s=1000), timing("w2", began_s=1005), timing(began_s=1000 + day)])
    assert found["step_s"] * len(found["tokens_per_second"]) == pytest.approx(25, rel=1e-3)
    assert found["step_s"] * sum(found["tokens_per_second"]) == pytest.approx(3000, rel=1e-2)
    assert max(found["tokens_per_second"]) == pytest.approx(200, rel=1e-2)  # both at once


def test_attempts_of_no_length_have_no_rate() -> None:
    assert over_time([timing(elapsed_s=0)])["tokens_per_second"] == []
