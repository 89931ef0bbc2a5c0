"""Nobody sees another tenant's rows, whatever is sent; and a service that let them out would be caught."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import jwt
import pytest

from jobs.service import searcher
from jobs.service.auth import Caller, bearer_token
from pipelines.targets.filters import Filter
from pipelines.targets.target import Hit
from tests.service.tenant_world import TENANTS, World, make_world
from tests.service.tenants import Result, storm

_KINDS = 11


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("tenants") / "world")


def must_be_sound(result: Result) -> None:
    assert result.foreign == []
    assert result.failed == []
    assert len(result.kinds) == _KINDS
    assert result.rows > result.attempts / 5
    assert {200, 400, 401, 403, 404} <= {*result.statuses}
    assert result.statuses[200] > result.attempts / 4


@pytest.mark.timeout(120)
def test_no_attempt_of_two_thousand_sees_a_foreign_row(world: World) -> None:
    must_be_sound(asyncio.run(storm(world, attempts=2_000, seed=1)))
    audited = (world.folder / "audit.jsonl").read_text()
    assert "canary" not in audited
    assert not any(word in audited for word in ("eyJ", "Bearer", 'signature":'))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_attempt_of_a_hundred_thousand_sees_a_foreign_row(world: World) -> None:
    must_be_sound(asyncio.run(storm(world, attempts=100_000, seed=2)))


def no_filter(caller: Caller, asked: Sequence[Filter]) -> tuple[Filter, ...]:
    return tuple(asked)


def no_check(hits: Sequence[Hit], caller: Caller) -> Sequence[Hit]:
    return hits


def test_the_storm_finds_rows_where_filter_and_check_are_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "filters_for", no_filter)
    monkeypatch.setattr(searcher, "own", no_check)
    assert len(asyncio.run(storm(world, attempts=150, seed=3)).foreign) > 20


def test_without_the_filter_the_check_alone_holds_every_foreign_row_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "filters_for", no_filter)
    result = asyncio.run(storm(world, attempts=150, seed=3))
    assert result.foreign == []
    assert len(result.failed) > 20
    assert all("a check of its hits failed" in each for each in result.failed)


def test_without_the_check_the_filter_alone_lets_no_foreign_row_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "own", no_check)
    assert asyncio.run(storm(world, attempts=300, seed=4)).sound


class Credulous:
    """Takes a token's word for what it says, as decoding without verifying would."""

    def admit(self, authorization: str | None) -> Caller:
        text = bearer_token(authorization)
        try:
            tenant = jwt.decode(text, options={"verify_signature": False}).get("tenant")
        except jwt.PyJWTError:
            tenant = None
        return Caller("anybody", tenant if tenant in TENANTS else "nobody")

    def close(self) -> None:
        pass


def test_the_storm_finds_a_service_that_does_not_verify(world: World) -> None:
    result = asyncio.run(storm(world, attempts=300, seed=5, gatekeeper=Credulous()))
    assert any(each.startswith("bad token: ") for each in result.foreign)
