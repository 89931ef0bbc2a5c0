"""The engine contract, held by ``batch_array``: as the only child of its array, and inline. What several children do
together is in tests/engines/test_batch_array.py and tests/e2e/test_batch_array.py."""

from __future__ import annotations

import pytest

from tests.contracts.engine_contract import *  # noqa: F403


@pytest.fixture
def name() -> str:
    return "batch_array"


@pytest.fixture(params=[0, 2], ids=["inline", "processes"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)
