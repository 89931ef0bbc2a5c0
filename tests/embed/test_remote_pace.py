"""The remote pace against a simulated service: it finds the limit from refusals alone, keeps near it, and hurries not."""

from __future__ import annotations

import math

import pytest

from pipelines.embed.remote_pace import Limit, RemotePace
from tests.embed.paced_service import Bucket, Service, run

LIMITS = {
    "requests": lambda: Service(requests=Bucket(10, 10)),
    "requests, a minute's at once": lambda: Service(requests=Bucket(10, 600)),
    "tokens": lambda: Service(tokens=Bucket(5_000, 5_000)),
    "tokens, a minute's at once": lambda: Service(tokens=Bucket(5_000, 300_000)),
    "both": lambda: Service(tokens=Bucket(5_000, 5_000), requests=Bucket(30, 30)),
}


def share_of(service: Service, begin: float, end: float) -> float:
    """Of what the limit that binds would have let through."""
    tokens, requests = service.rate(begin, end)
    shares = [tokens / service.tokens.per_s] if service.tokens else []
    return max(shares + ([requests / service.requests.per_s] if service.requests else []))


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("clients", [1, 4])
def test_at_least_nine_tenths_of_a_limit_are_used(name: str, told: bool, clients: int) -> None:
    service = LIMITS[name]()
    service.told = told
    run(service, 300, clients=clients)
    assert share_of(service, 100, 300) >= 0.9
    assert service.refused / (service.refused + len(service.taken)) < 0.2


def test_texts_of_any_length_use_nine_tenths_of_a_limit_of_requests() -> None:
    service = Service(requests=Bucket(10, 10))
    run(service, 300, size=(5, 1000))
    assert share_of(service, 100, 300) >= 0.9


def test_one_client_that_is_told_what_is_left_is_never_refused() -> None:
    service = Service(tokens=Bucket(5_000, 5_000), requests=Bucket(30, 30), told=True)
    run(service, 60)
    assert service.refused == 0


def test_a_limit_that_is_raised_is_used_within_a_minute_or_two() -> None:
    service = Service(tokens=Bucket(2_000, 2_000))
    run(service, 60)
    service.tokens = Bucket(8_000, 8_000)
    pace = RemotePace(16, seed=1)
    now = 0.0
    for _ in range(20):
        pace.answered(now, now + 0.2, 200, 0, 0)
        now += 0.1
    pace.refused(now, now, None)
    assert pace.rate(now) < 2_100
    assert pace.rate(now + 90) > 8_000


def test_retry_after_is_kept_by_all_and_nothing_is_sent_before() -> None:
    pace = RemotePace(8, seed=1)
    pace.refused(0.0, 1.0, 7.0)
    pace.answered(0.5, 1.1, 10, 0, 0)  # one that was under way
    assert 6.8 < pace.wait_s(1.1, 0, 10) < 7.4


def test_an_overload_halves_once_for_all_that_were_under_way() -> None:
    pace = RemotePace(16, seed=1)
    for i in range(40):
        pace.answered(i, i + 0.1, 10, 15, 150)
    assert pace.limit == 16
    for _ in range(5):
        pace.overloaded(40.0, 41.0)
    assert pace.limit == 8
    pace.overloaded(42.0, 43.0)
    assert pace.limit == 4


def test_while_nobody_answers_one_request_at_a_time_is_tried_at_growing_intervals() -> None:
    pace = RemotePace(16, seed=1)
    waits = []
    for i in range(8):
        pace.silence(10.0 * i)
        assert pace.limit == 1
        waits.append(pace.wait_s(10.0 * i, 0, 10))
    assert max(waits) > 5 * waits[0]
    assert max(waits) <= 4
    pace.answered(90, 91, 10, 0, 0)
    assert pace.wait_s(91, 0, 10) == 0


def test_limits_that_a_service_does_not_know_change_nothing() -> None:
    pace = RemotePace(16, seed=1)
    pace.answered(0, 0.1, 10, 0, 0, (Limit("tokens", -1, -1, 0), Limit("requests", 0, 0, 0)))
    assert pace.wait_s(0.1, 0, 1_000_000) == 0
    assert pace.rate(0.1) == math.inf
