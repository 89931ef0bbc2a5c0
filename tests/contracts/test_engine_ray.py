"""The engine contract, held by ``ray`` on a real cluster, which every driver here joins."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from jobs.engines.engine import Engine, EngineSettings
from tests.contracts.engine_contract import *  # noqa: F403
from tests.contracts.engines import EngineFactory
from tests.fixtures.ray_cluster import RayNodes


@pytest.fixture
def name() -> str:
    return "ray"


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_nodes: RayNodes) -> RayNodes:
    return ray_nodes


@pytest.fixture
def engine(make: EngineFactory) -> Engine:
    """With one worker, where their number does not matter: an actor takes a second of processor time to start."""
    return make(EngineSettings(workers=1))


@pytest.fixture
def ends() -> dict[str, str]:
    """Ray sees that the process is gone, and neither signal nor exit code."""
    return dict.fromkeys(["die", "exit"], "ended without a word, as by SIGKILL or exit")


@pytest.fixture
def lingering_s() -> float:
    """Ray kills without waiting."""
    return 10.0


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], tuple[str, str]]:
    """Ray brings the lines of its workers after a while."""

    def wait_for_lines() -> tuple[str, str]:
        deadline, out, err = time.monotonic() + 30, "", ""
        while "hello" not in err and time.monotonic() < deadline:
            time.sleep(0.1)
            more = capfd.readouterr()
            out, err = out + more.out, err + more.err
        return out, err

    return wait_for_lines
