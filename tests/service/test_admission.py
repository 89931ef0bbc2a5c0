"""What is asked beyond what the index answers is refused at once, and those who are let in do not wait in a queue."""

from __future__ import annotations

import math
import random
import sys

import pytest

from jobs.service.admission import Admission
from jobs.service.limits import LimitSettings
from jobs.service.refusals import Overloaded, RateLimited
from tests.service.simulated import Demand, Draw, World

SETTINGS = LimitSettings()
SERVICE_S = 0.050
PEAK = 160.0  # 8 slots of 50 ms
FIVE_TIMES = [Demand(5 * PEAK)]


def constant(_: random.Random) -> float:
    return SERVICE_S


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1 / SERVICE_S)


def long_tailed(chance: random.Random) -> float:
    return chance.lognormvariate(math.log(SERVICE_S) - 0.5, 1.0)


def of_two_kinds(chance: random.Random) -> float:
    """Cheap ones and dear ones, as lexical searches and exact ones."""
    return 0.004 if chance.random() < 0.7 else 0.157


@pytest.mark.parametrize("seed", range(3))
def test_at_five_times_of_what_it_can_the_index_is_busy_and_nobody_waits_long(seed: int) -> None:
    world = World(SETTINGS, seed=seed).run(FIVE_TIMES, 20)
    assert world.goodput(2, 20) >= 0.9 * PEAK
    assert world.p99(2, 20) <= 2 * SERVICE_S
    assert world.goodput(0, 2) >= 0.9 * PEAK


@pytest.mark.parametrize("draw", [exponential, long_tailed, of_two_kinds])
@pytest.mark.parametrize("seed", range(3))
def test_so_it_is_where_answers_take_very_different_times(draw: Draw, seed: int) -> None:
    chance = random.Random(seed)
    alone = sorted(draw(chance) for _ in range(4000))
    world = World(SETTINGS, service_s=draw, seed=seed).run(FIVE_TIMES, 20)
    assert world.goodput(2, 20) >= 0.85 * PEAK
    assert world.p99(2, 20) <= 2 * alone[3959]


def test_it_follows_the_index_down_and_up() -> None:
    world = World(SETTINGS)
    world.at(6, lambda: setattr(world, "slots", 2))
    world.at(14, lambda: setattr(world, "slots", 8))
    world.run(FIVE_TIMES, 24)
    assert world.p99(8, 14) <= 3 * SERVICE_S
    assert world.goodput(8, 14) >= 0.9 * PEAK * 2 / 8
    assert world.goodput(17, 24) >= 0.9 * PEAK
    assert world.p99(17, 24) <= 2 * SERVICE_S


def test_an_index_that_becomes_slower_for_good_is_no_queue() -> None:
    world = World(SETTINGS)
    world.at(6, lambda: setattr(world, "service_s", lambda _: 3 * SERVICE_S))
    world.at(24, lambda: setattr(world, "service_s", constant))
    world.run(FIVE_TIMES, 36)
    assert world.goodput(14, 24) >= 0.85 * PEAK / 3
    assert world.p99(14, 24) <= 2.2 * 3 * SERVICE_S
    assert world.goodput(28, 36) >= 0.9 * PEAK
    assert world.p99(30, 36) <= 2 * SERVICE_S


def test_it_starts_with_too_many_and_finds_the_right_number() -> None:
    world = World(LimitSettings(start=64)).run(FIVE_TIMES, 20)
    assert world.goodput(5, 20) >= 0.9 * PEAK
    assert world.p99(10, 20) <= 2 * SERVICE_S


def test_a_large_index_is_filled_within_seconds() -> None:
    world = World(LimitSettings(max_in_flight=200), slots=100).run([Demand(3000)], 10)
    assert world.goodput(5, 10) >= 0.9 * 2000
    assert world.p99(5, 10) <= 2 * SERVICE_S


def test_below_what_it_can_nobody_is_refused() -> None:
    world = World(SETTINGS).run([Demand(0.5 * PEAK)], 20)
    assert world.share(2, 20, None) >= 0.995


def test_the_limit_grows_only_where_it_is_reached_and_never_over_the_settings_bound() -> None:
    assert World(SETTINGS).run([Demand(20)], 20).limit_at(20) == SETTINGS.start
    world = World(LimitSettings(max_in_flight=5)).run(FIVE_TIMES, 20)
    assert max(limit for _, limit in world.limits) == 5
    assert world.goodput(4, 20) == pytest.approx(100, rel=0.1)  # less the probes


def test_what_the_index_drops_lowers_the_limit_once_for_all_under_way_and_never_below_one() -> None:
    now = 0.0
    admission = Admission(LimitSettings(start=10), lambda: now)
    admitted = [admission.enter(None) for _ in range(10)]
    now = 2.0
    for each in admitted[:9]:
        each.leave(seconds=2.0, dropped=True)
    assert admission.limit == 6
    admitted[9].leave(seconds=2.0, dropped=False)
    assert admission.limit == 6
    for _ in range(20):
        now += 1
        held = admission.enter(None)
        now += 1
        held.leave(seconds=1.0, dropped=True)
    assert admission.limit == 1
    assert admission.in_flight == 0


def test_after_an_outage_it_is_back_within_seconds() -> None:
    world = World(SETTINGS)
    world.at(5, lambda: setattr(world, "service_s", lambda _: math.inf))  # hangs

    def back() -> None:
        world.service_s = constant
        world._busy = 0

    world.at(10, back)
    world.run(FIVE_TIMES, 20)
    assert world.limit_at(9.9) <= 6
    assert world.goodput(14, 20) >= 0.9 * PEAK


@pytest.mark.parametrize(("heavy", "light"), [(800, 16), (500, 10)])
def test_who_asks_fifty_times_as_often_starves_nobody(heavy: float, light: float) -> None:
    world = World(SETTINGS).run([Demand(heavy, "heavy"), Demand(light, "light")], 20)
    assert world.share(2, 20, "light") >= 0.9
    assert world.share(2, 20, "heavy") <= 0.35
    assert world.goodput(2, 20) >= 0.9 * PEAK
    assert world.p99(2, 20, "light") <= 2 * SERVICE_S


def test_ten_modest_tenants_beside_a_greedy_one_are_served() -> None:
    modest = [f"modest {number}" for number in range(10)]
    world = World(SETTINGS).run([Demand(800, "greedy"), *(Demand(4, name) for name in modest)], 20)
    assert min(world.share(2, 20, name) for name in modest) >= 0.8
    assert world.goodput(2, 20) >= 0.85 * PEAK


def test_greedy_tenants_have_equal_shares() -> None:
    world = World(SETTINGS).run([Demand(800, "a"), Demand(200, "b"), Demand(200, "c")], 20)
    found = [world.goodput(2, 20, name) for name in "abc"]
    assert sum(found) >= 0.85 * PEAK
    assert max(found) <= 1.5 * min(found)


def test_a_tenant_has_its_rate_and_its_burst_and_others_have_theirs() -> None:
    now = 100.0
    admission = Admission(LimitSettings(requests_per_s=4, burst=6), lambda: now)
    for _ in range(6):
        admission.enter("acme").leave(seconds=None, dropped=False)
    with pytest.raises(RateLimited) as refused:
        admission.enter("acme")
    assert refused.value.retry_after_s == pytest.approx(0.25)
    admission.enter("blue").leave(seconds=None, dropped=False)
    now += 0.2501
    admission.enter("acme").leave(seconds=None, dropped=False)
    with pytest.raises(RateLimited):
        admission.enter("acme")
    assert (admission.rate_limited, admission.overloaded) == (2, 0)


def test_overload_costs_a_tenant_nothing_of_its_rate() -> None:
    now = 100.0
    admission = Admission(LimitSettings(requests_per_s=1, burst=1, start=1), lambda: now)
    held = admission.enter("acme")
    for _ in range(5):
        with pytest.raises(Overloaded):
            admission.enter("blue")
    held.leave(seconds=0.1, dropped=False)
    admission.enter("blue")


def test_those_refused_are_told_to_come_back_later_the_more_they_are() -> None:
    def told(factor: float) -> list[float]:
        world = World(SETTINGS)
        waits: list[float] = []
        enter = world.admission.enter

        def noted(tenant: str | None) -> object:
            try:
                return enter(tenant)
            except Overloaded as refused:
                waits.append(refused.retry_after_s or 0.0)
                raise

        world.admission.enter = noted  # type: ignore[method-assign, assignment]
        world.run([Demand(factor * PEAK)], 10)
        return waits[len(waits) // 2 :]

    assert 1.5 <= sum(twice := told(2)) / len(twice) <= 3
    assert 4 <= sum(five := told(5)) / len(five) <= 6.5
    assert len({round(each, 2) for each in five}) > 100  # not all at once
    assert min(twice) >= 1


def test_memory_is_bounded_whoever_asks() -> None:
    now = 0.0
    admission = Admission(LimitSettings(requests_per_s=1, tenants_kept=100), lambda: now)
    for number in range(10_000):
        admission.enter(f"tenant {number}").leave(seconds=0.01, dropped=False)
        now += 0.00001
    assert len(admission._buckets) == 100
    assert len(admission._shares._asked) <= 100
    assert not admission._shares._held
    assert len(admission._limit._window.seconds) <= 2_000
    assert sys.getsizeof(admission._buckets._buckets) < 20_000


def test_a_request_leaves_once() -> None:
    admitted = Admission(SETTINGS).enter(None)
    admitted.leave(seconds=None, dropped=False)
    with pytest.raises(RuntimeError):
        admitted.leave(seconds=None, dropped=False)


def test_kept_answers_teach_nothing_of_the_index() -> None:
    now = 0.0
    admission = Admission(SETTINGS, lambda: now)
    for _ in range(1000):
        held = [admission.enter(None) for _ in range(SETTINGS.start)]
        now += 0.001
        for each in held:
            each.leave(seconds=None, dropped=False)
    assert admission.limit == SETTINGS.start
    assert admission._limit._unhurried_s is None
