"""What every engine promises: each partition once, failures apart, killed workers replaced, stops obeyed.

One file per engine, ``test_engine_<name>.py``, takes all of this and says its ``name``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobs.engines.engine import Beat, Done, Engine, EngineSettings, Failed, WorkSpec
from tests.contracts.engines import ENGINES, EngineFactory
from tests.engines.works import EvidenceWork, Orders, evidence, partitions

DEADLINE_S = 60.0


@pytest.fixture
def name() -> str:
    raise NotImplementedError("each engine's file says which it is")


@pytest.fixture
def make(name: str) -> EngineFactory:
    return ENGINES[name]


@pytest.fixture
def workers() -> int:
    return 2


@pytest.fixture
def engine(make: EngineFactory, workers: int) -> Engine:
    return make(EngineSettings(workers=workers))


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], tuple[str, str]]:
    """What was printed so far on the standard output and the standard error that driver and workers share."""
    return lambda: tuple(capfd.readouterr())  # type: ignore[return-value]  # a named tuple of two


@pytest.fixture
def ends() -> dict[str, str]:
    """How the engine names the end of a worker that was killed or left: not every one sees more than that it is gone."""
    return {"die": "killed by SIGKILL", "exit": "exit code 7"}


@pytest.fixture
def lingering_s() -> float:
    """How long a worker may still be seen after the engine ended it; 0 where the engine waits for its processes."""
    return 0.0


def spec(folder: Path, orders: dict[int, str] | None = None, constructor: str = "ok") -> WorkSpec[Orders]:
    return WorkSpec(EvidenceWork, Orders(str(folder), orders or {}, constructor))


def split(outcomes: Iterator[Done | Failed]) -> tuple[list[int], dict[int, Failed]]:
    """Numbers done, in order, and failures by number."""
    done, failed = [], {}
    for outcome in outcomes:
        if isinstance(outcome, Done):
            done.append(outcome.partition.number)
        else:
            failed[outcome.partition.number] = outcome
    return sorted(done), failed


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.02)


def alive(folder: Path) -> list[int]:
    """Workers that wrote evidence and still run."""
    pids = {int(path.read_text() or 0) for path in folder.iterdir()}
    running = []
    for pid in pids - {0, os.getpid()}:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.append(pid)
    return running


def no_worker_is_left(folder: Path, lingering_s: float) -> None:
    deadline = time.monotonic() + lingering_s
    while alive(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(folder) == []


def test_each_partition_is_done_once(engine: Engine, tmp_path: Path) -> None:
    done, failed = split(engine.run(spec(tmp_path), partitions(20)))
    assert (done, failed) == (list(range(20)), {})
    assert evidence(tmp_path, "done") == list(range(20))


def test_nothing_to_do_builds_nothing(engine: Engine, tmp_path: Path) -> None:
    assert list(engine.run(spec(tmp_path), [])) == []
    assert evidence(tmp_path, "built") == []


def test_the_receipt_is_what_the_work_returned(engine: Engine, tmp_path: Path) -> None:
    (outcome,) = engine.run(spec(tmp_path), partitions(1))
    assert isinstance(outcome, Done)
    assert outcome.receipt["partition"] == outcome.partition.id


def test_the_constructor_runs_once_in_each_worker(make: EngineFactory, tmp_path: Path) -> None:
    split(make(EngineSettings(workers=3)).run(spec(tmp_path), partitions(30)))
    built = evidence(tmp_path, "built")
    assert len(built) == len(set(built)) <= 3
    assert os.getpid() not in built


def test_no_more_workers_start_than_there_are_partitions(make: EngineFactory, tmp_path: Path) -> None:
    split(make(EngineSettings(workers=4)).run(spec(tmp_path), partitions(1)))
    assert len(evidence(tmp_path, "built")) == 1


def test_the_cap_of_a_run_lowers_the_number_of_workers(make: EngineFactory, tmp_path: Path) -> None:
    split(make(EngineSettings(workers=4)).run(spec(tmp_path), partitions(8), workers=1))
    assert len(evidence(tmp_path, "built")) == 1


def test_one_failure_is_reported_and_does_not_stop_the_others(engine: Engine, tmp_path: Path) -> None:
    done, failed = split(engine.run(spec(tmp_path, {1: "refuse", 3: "break"}), partitions(5)))
    assert done == [0, 2, 4]
    assert (failed[1].cause, failed[1].message, failed[1].exit_code, failed[1].attempts) == (
        "GateRefused", "partition 1 is over the limit", 3, 1)  # fmt: skip
    assert (failed[3].cause, failed[3].exit_code) == ("KeyError", 1)
    assert "an ordinary bug" in failed[3].message


def test_an_error_of_the_work_is_not_tried_again(engine: Engine, tmp_path: Path) -> None:
    split(engine.run(spec(tmp_path, {0: "refuse", 1: "break", 2: "unsendable"}), partitions(3)))
    assert evidence(tmp_path, "began") == [0, 1, 2]


def test_beats_are_forwarded(engine: Engine, tmp_path: Path) -> None:
    beats: list[Beat] = []
    split(engine.run(spec(tmp_path, {0: "chatty", 1: "chatty"}), partitions(2), on_beat=beats.append))
    assert beats == [Beat(3, 100)] * 40


def test_a_work_that_cannot_be_built_fails_every_partition_and_is_not_built_for_ever(
    engine: Engine, tmp_path: Path
) -> None:
    done, failed = split(engine.run(spec(tmp_path, constructor="refuse"), partitions(5)))
    assert (done, sorted(failed)) == ([], [0, 1, 2, 3, 4])
    assert {(failure.cause, failure.exit_code) for failure in failed.values()} == {("GateRefused", 3)}
    assert "backhaul doctor CONF" in failed[0].message
    assert len(evidence(tmp_path, "built")) <= 2


def test_workers_that_could_be_built_go_on_without_those_that_could_not(make: EngineFactory, tmp_path: Path) -> None:
    work = spec(tmp_path, constructor="refuse-all-but-first")
    done, failed = split(make(EngineSettings(workers=3)).run(work, partitions(5)))
    assert (done, failed) == ([0, 1, 2, 3, 4], {})


def test_workers_that_die_while_starting_are_given_up(
    make: EngineFactory, tmp_path: Path, ends: dict[str, str]
) -> None:
    done, failed = split(make(EngineSettings(workers=1)).run(spec(tmp_path, constructor="die"), partitions(2)))
    assert (done, sorted(failed)) == ([], [0, 1])
    assert failed[0].cause == "worker died"
    assert f"before they were ready, the last {ends['die']}" in failed[0].message
    assert len(evidence(tmp_path, "built")) == 3


def test_a_killed_worker_is_replaced_and_its_partition_done(make: EngineFactory, tmp_path: Path) -> None:
    work = spec(tmp_path, {2: "die-once", 5: "die-once"})
    done, failed = split(make(EngineSettings(workers=2)).run(work, partitions(8)))
    assert (done, failed) == (list(range(8)), {})
    assert evidence(tmp_path, "began").count(2) == 2
    assert evidence(tmp_path, "done") == list(range(8))


def test_a_worker_killed_from_outside_is_replaced(make: EngineFactory, tmp_path: Path) -> None:
    killed = threading.Event()

    def kill_one() -> None:
        eventually(lambda: bool(evidence(tmp_path, "began")), "a partition under way")
        os.kill(evidence(tmp_path, "built")[0], signal.SIGKILL)
        killed.set()

    thread = threading.Thread(target=kill_one)
    outcomes = make(EngineSettings(workers=1, max_attempts=1)).run(spec(tmp_path, {0: "stuck"}), partitions(3))
    thread.start()
    done, failed = split(outcomes)
    thread.join(10)
    assert killed.is_set()
    assert (done, sorted(failed)) == ([1, 2], [0])
    assert len(evidence(tmp_path, "built")) == 2


@pytest.mark.parametrize("order", ["die", "exit"])
def test_a_partition_that_kills_its_workers_is_given_up_and_named(
    make: EngineFactory, tmp_path: Path, order: str, ends: dict[str, str]
) -> None:
    done, failed = split(make(EngineSettings(workers=2)).run(spec(tmp_path, {1: order}), partitions(4)))
    assert done == [0, 2, 3]
    assert evidence(tmp_path, "began").count(1) == 3
    assert (failed[1].cause, failed[1].exit_code, failed[1].attempts) == ("worker died", 1, 3)
    assert f"partition 1 (000000000000) lost its worker 3 times, the last {ends[order]}" in failed[1].message
    assert "backhaul retry CONF" in failed[1].message


def test_closing_the_iterator_ends_the_workers(make: EngineFactory, tmp_path: Path, lingering_s: float) -> None:
    work = spec(tmp_path, {1: "slow", 2: "stuck"})
    outcomes = make(EngineSettings(workers=2)).run(work, partitions(3))
    assert isinstance(next(outcomes), Done)
    outcomes.close()
    no_worker_is_left(tmp_path, lingering_s)


def test_no_worker_is_left_after_the_last_outcome(make: EngineFactory, tmp_path: Path, lingering_s: float) -> None:
    split(make(EngineSettings(workers=2)).run(spec(tmp_path), partitions(6)))
    no_worker_is_left(tmp_path, lingering_s)


def test_an_engine_runs_in_a_thread_and_leaves_signals_alone(engine: Engine, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(split(engine.run(spec(tmp_path), partitions(3)))[0]))
    thread.start()
    thread.join(DEADLINE_S)
    assert found == [[0, 1, 2]]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_return_when_the_run_ends(engine: Engine, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcomes = engine.run(spec(tmp_path), partitions(2))
    next(outcomes)
    assert signal.getsignal(signal.SIGTERM) != before[1]
    list(outcomes)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_a_work_prints_does_not_reach_standard_output(
    make: EngineFactory, tmp_path: Path, printed: Callable[[], tuple[str, str]]
) -> None:
    split(make(EngineSettings(workers=1)).run(spec(tmp_path, constructor="print"), partitions(1)))
    out, err = printed()
    assert out == ""
    assert "a library says hello" in err


def test_a_death_is_logged_with_its_cause(
    make: EngineFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture, ends: dict[str, str]
) -> None:
    with caplog.at_level(logging.WARNING):
        split(make(EngineSettings(workers=1)).run(spec(tmp_path, {0: "die-once"}), partitions(1)))
    assert f"worker died ({ends['die']}) on partition 0, attempt 1" in caplog.text


class Driver:
    """A driver in a process of its own, to be signalled."""

    def __init__(self, name: str, folder: Path, orders: dict[int, str], *, workers: int, grace_s: float = 30) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.drive", name, str(workers), str(grace_s), "6", json.dumps(orders),
             str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def busy(self, *numbers: int) -> None:
        """Wait until these partitions are under way."""
        eventually(lambda: set(numbers) <= set(evidence(self.folder, "began")), f"partitions {numbers} under way")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err


@pytest.fixture
def drive(name: str, tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def start(orders: dict[int, str], **options: float) -> Driver:
        drivers.append(Driver(name, tmp_path, orders, **options))  # type: ignore[arg-type]
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.process.kill()
        driver.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_part_in_hand(
    drive: Callable[..., Driver], workers: int, number: signal.Signals, lingering_s: float
) -> None:
    driver = drive({1: "slow", 2: "slow"}, workers=workers)
    driver.busy(*([1] if workers == 0 else [1, 2]))
    driver.process.send_signal(number)
    code, out, err = driver.end()
    assert code == 75
    assert out == "done 0\n"
    assert "interrupted: 1 of 6 partitions ended" in err
    assert "Run the same command again to resume" in err
    assert len(evidence(driver.folder, "stopped")) == max(workers, 1)  # the works were told, not killed
    no_worker_is_left(driver.folder, lingering_s)


def test_a_worker_that_does_not_stop_is_killed_after_the_grace(
    drive: Callable[..., Driver], lingering_s: float
) -> None:
    driver = drive({0: "stuck", 1: "slow"}, workers=2, grace_s=0.5)
    driver.busy(0, 1)
    driver.process.terminate()
    assert driver.end()[0] == 75
    assert evidence(driver.folder, "stopped") == [1]
    no_worker_is_left(driver.folder, lingering_s)


def test_a_second_signal_kills_at_once(drive: Callable[..., Driver], lingering_s: float) -> None:
    driver = drive({0: "stuck", 1: "slow"}, workers=2, grace_s=300)
    driver.busy(0, 1)
    driver.process.send_signal(signal.SIGINT)
    eventually(lambda: evidence(driver.folder, "stopped") == [1], "the first signal to be obeyed")
    driver.process.send_signal(signal.SIGINT)
    assert driver.end()[0] == 75
    no_worker_is_left(driver.folder, lingering_s)


def test_no_worker_outlives_a_driver_that_was_killed(drive: Callable[..., Driver]) -> None:
    driver = drive({0: "stuck", 1: "slow"}, workers=2)
    driver.busy(0, 1)
    assert len(alive(driver.folder)) == 2
    driver.process.kill()
    eventually(lambda: alive(driver.folder) == [], "the workers to end")
