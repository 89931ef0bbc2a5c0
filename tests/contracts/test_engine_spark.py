"""The engine contract, held by ``spark`` with real Spark processes: one JVM for all runs in this process, and a JVM of
its own for each driver that is signalled, which takes eight seconds: most of those tests are for the soak."""

from __future__ import annotations

import signal
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobs.engines.engine import Engine, EngineSettings
from tests.contracts import engine_contract
from tests.contracts.engine_contract import *  # noqa: F403
from tests.contracts.engine_contract import Driver, no_worker_is_left
from tests.contracts.engines import EngineFactory
from tests.e2e.command import backhaul
from tests.e2e.corpora import write_three_partitions
from tests.fixtures.spark import running_context


@pytest.fixture
def name() -> str:
    return "spark"


@pytest.fixture
def engine(make: EngineFactory) -> Engine:
    """With one worker, where their number does not matter: each takes a second of processor time to start."""
    return make(EngineSettings(workers=1))


@pytest.fixture(scope="module", autouse=True)
def said_by_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with running_context(tmp_path_factory.mktemp("spark"), EngineSettings(name="spark", workers=2)) as files:
        yield files


@pytest.fixture
def printed(said_by_spark: tuple[Path, Path]) -> Callable[[], tuple[str, str]]:
    out, err = said_by_spark
    return lambda: (out.read_text(), err.read_text())


def _for_the_soak(test: types.FunctionType) -> types.FunctionType:
    """A copy, since a mark on the contract's own function would be on that of all engines."""
    copy = types.FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    copy.__dict__.update(test.__dict__)
    return pytest.mark.soak(copy)


test_a_signal_ends_the_run_after_the_part_in_hand = _for_the_soak(
    engine_contract.test_a_signal_ends_the_run_after_the_part_in_hand
)
test_a_worker_that_does_not_stop_is_killed_after_the_grace = _for_the_soak(
    engine_contract.test_a_worker_that_does_not_stop_is_killed_after_the_grace
)
test_a_second_signal_kills_at_once = _for_the_soak(engine_contract.test_a_second_signal_kills_at_once)


def test_sigterm_ends_the_run_after_the_part_in_hand(drive: Callable[..., Driver]) -> None:
    engine_contract.test_a_signal_ends_the_run_after_the_part_in_hand(drive, 2, signal.SIGTERM, 0)


@pytest.mark.soak
def test_a_master_that_cannot_be_is_named(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    done = backhaul(
        "embed", conf, "--engine", "spark", "--set", "engine.workers=1", "--set", "engine.spark.master=sparq://x"
    )
    assert done.code == 1
    assert "Spark does not start" in done.err
    assert "Master must either be" in done.err
    assert "Traceback" not in done.err


@pytest.mark.soak
def test_a_driver_whose_jvm_is_gone_says_so_and_leaves_no_worker(drive: Callable[..., Driver]) -> None:
    driver = drive({0: "stuck", 1: "slow"}, workers=2)
    driver.busy(0, 1)
    (jvm,) = [child for child in psutil.Process(driver.process.pid).children() if child.name() == "java"]
    jvm.kill()
    code, out, err = driver.end()
    assert (code, out) == (1, "")
    assert "Spark ended" in err
    assert "Run the same command again to resume" in err
    no_worker_is_left(driver.folder, 10)
