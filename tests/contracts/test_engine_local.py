"""The engine contract, held by ``local``: with worker processes, and inline."""

from __future__ import annotations

import pytest

from tests.contracts.engine_contract import *  # noqa: F403


@pytest.fixture
def name() -> str:
    return "local"


@pytest.fixture(params=[0, 2], ids=["inline", "processes"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)
