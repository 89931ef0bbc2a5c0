"""What asks an engine to stop: signals and notices, in any order, from any thread."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from jobs.engines.notice import Notice
from jobs.engines.stop import StopSignals, interrupted
from tests.engines.works import evidence
from tests.fixtures.imds import REBALANCE, FakeImds, Fault

PROJECT = Path(__file__).parents[2]
DEADLINE_S = 60.0
DRAIN = Notice("drain", "the node is drained", 30.0)


class Kills:
    """Counts what the second signal does."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def kills() -> Kills:
    return Kills()


def woken(stop: StopSignals) -> bool:
    """Whether a wait on ``wake`` ends; it is drained."""
    if not wait([stop.wake], 0):
        return False
    stop.drain()
    return True


def test_the_first_signal_asks_and_the_second_kills(kills: Kills) -> None:
    with StopSignals(on_second=kills) as stop:
        assert (stop.requested, stop.notice, woken(stop)) == (False, None, False)
        signal.raise_signal(signal.SIGTERM)
        assert (stop.requested, stop.notice, woken(stop)) == (True, Notice("signal", "SIGTERM"), True)
        assert kills.count == 0
        signal.raise_signal(signal.SIGINT)
        assert (stop.notice, woken(stop), kills.count) == (Notice("signal", "SIGTERM"), True, 1)


def test_a_notice_from_another_thread_asks_and_wakes(kills: Kills) -> None:
    with StopSignals(on_second=kills) as stop:
        thread = threading.Thread(target=stop.tell, args=(DRAIN,))
        thread.start()
        assert wait([stop.wake], DEADLINE_S)
        thread.join(DEADLINE_S)
        assert (stop.requested, stop.notice, kills.count) == (True, DRAIN, 0)


def test_a_signal_after_a_notice_is_the_first_signal(kills: Kills) -> None:
    with StopSignals(on_second=kills) as stop:
        stop.tell(DRAIN)
        assert woken(stop)
        signal.raise_signal(signal.SIGTERM)
        assert (stop.requested, stop.notice, woken(stop), kills.count) == (True, DRAIN, True, 0)
        signal.raise_signal(signal.SIGTERM)
        assert kills.count == 1


def test_a_notice_after_a_signal_is_no_second_signal(kills: Kills) -> None:
    with StopSignals(on_second=kills) as stop:
        signal.raise_signal(signal.SIGINT)
        stop.tell(DRAIN)
        stop.tell(DRAIN)
        assert (stop.notice, kills.count) == (Notice("signal", "SIGINT"), 0)


def test_a_notice_after_the_end_is_told_to_nobody(kills: Kills) -> None:
    with StopSignals(on_second=kills) as stop:
        descriptor = stop.wake.fileno()
    pipes = [os.pipe()]
    while descriptor not in pipes[-1]:  # until the numbers that have become free are taken
        assert len(pipes) < 200
        pipes.append(os.pipe())
    reader, _ = pipes[-1]
    try:
        stop.tell(DRAIN)
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        for number in (number for pipe in pipes for number in pipe):
            os.close(number)
    assert not stop.requested


def test_more_notices_than_the_pipe_holds_block_nobody(kills: Kills) -> None:
    with StopSignals(on_second=kills) as stop:
        for _ in range(100_000):
            stop.tell(DRAIN)
        assert woken(stop)


def test_former_handlers_return(kills: Kills) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(on_second=kills):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_block_that_ends_late_leaves_a_later_one_its_handlers(kills: Kills) -> None:
    forgotten = StopSignals(on_second=kills).__enter__()
    with StopSignals(on_second=kills) as stop:
        forgotten.__exit__(None, None, None)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    assert not forgotten.requested


def test_a_signal_to_a_block_that_has_ended_goes_to_who_had_it_before(kills: Kills) -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        forgotten = StopSignals(on_second=kills).__enter__()
        with StopSignals(on_second=kills):
            forgotten.__exit__(None, None, None)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert (heard, kills.count) == ([signal.SIGTERM] * 2, 0)


def test_in_a_thread_notices_are_heard_and_signals_left_alone(kills: Kills) -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def run() -> None:
        with StopSignals(on_second=kills) as stop:
            found.append(signal.getsignal(signal.SIGTERM))
            stop.tell(DRAIN)
            found.append(woken(stop))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE_S)
    assert found == [before, True]


def test_the_machine_is_watched(imds: FakeImds, kills: Kills) -> None:
    at = imds.announce_spot()
    with StopSignals(on_second=kills) as stop:
        assert wait([stop.wake], DEADLINE_S)
        assert stop.notice is not None
        assert (stop.notice.kind, stop.requested) == ("spot", True)
    assert f"(spot notice: terminate at {at:%H:%M:%SZ})" in str(interrupted(1, 2, stop.notice))


def test_a_rebalance_recommendation_stops_only_where_it_shall(imds: FakeImds, kills: Kills) -> None:
    imds.announce_rebalance()
    with StopSignals(on_second=kills, stop_on_rebalance=False) as stop:
        imds.wait_for(lambda: imds.count() >= 1, "the first poll")
        assert wait([stop.wake], 0.5) == []
    assert (stop.requested, imds.count(path=REBALANCE)) == (False, 0)
    with StopSignals(on_second=kills) as stop:
        assert wait([stop.wake], DEADLINE_S)
        assert stop.notice is not None
        assert stop.notice.kind == "rebalance"


def test_nothing_is_watched_for_whoever_watches_alone(imds: FakeImds, kills: Kills) -> None:
    imds.announce_spot()
    with StopSignals(on_second=kills, watch=False):
        assert "spot-watch" not in {thread.name for thread in threading.enumerate()}
    assert imds.arrived == 0


def test_an_interruption_says_what_asked_for_it() -> None:
    assert str(interrupted(1, 6)) == (
        "interrupted: 1 of 6 partitions ended; the parts written of the others are kept. "
        "Run the same command again to resume."
    )
    assert "1 of 6 partitions ended (the node is drained); the parts" in str(interrupted(1, 6, DRAIN))
    assert interrupted(1, 6).exit_code == 75


@pytest.mark.parametrize(("left_s", "grace_s"), [(None, 20.0), (120.0, 20.0), (30.0, 15.0), (0.0, 0.0)])
def test_the_part_in_hand_has_the_grace_or_half_of_what_is_left(
    kills: Kills, left_s: float | None, grace_s: float
) -> None:
    with StopSignals(on_second=kills) as stop:
        assert stop.grace_s(20.0) == 20.0
        stop.tell(Notice("drain", "the node is drained", left_s))
        assert stop.grace_s(20.0) == grace_s


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[[dict[int, str], int], subprocess.Popen[str]]]:
    """An engine over six partitions in a process of its own."""
    processes: list[subprocess.Popen[str]] = []

    def start(orders: dict[int, str], workers: int) -> subprocess.Popen[str]:
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "tests.engines.drive", "local", str(workers), "30", "6", json.dumps(orders),
             str(tmp_path)],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def under_way(folder: Path, number: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while number not in evidence(folder, "began"):
        assert time.monotonic() < deadline, f"partition {number} never began"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_notice_that_was_there_before_the_run_ends_it(
    imds: FakeImds, workers: int, drive: Callable[[dict[int, str], int], subprocess.Popen[str]]
) -> None:
    imds.announce_rebalance()
    process = drive(dict.fromkeys(range(6), "slow"), workers)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 75
    assert "0 of 6 partitions ended (rebalance recommendation of 08:22:00Z)" in err


@pytest.mark.parametrize("fault", ["hang", 401, 404, b"rubbish"])
def test_sigterm_is_obeyed_and_the_work_goes_on_whatever_metadata_does(
    imds: FakeImds, tmp_path: Path, fault: Fault, drive: Callable[[dict[int, str], int], subprocess.Popen[str]]
) -> None:
    imds.fault = fault
    process = drive({1: "slow"}, 1)
    imds.wait_for(lambda: imds.arrived >= 1, "a question to the metadata")
    under_way(tmp_path, 1)
    process.terminate()
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (75, "done 0\n")
    assert "1 of 6 partitions ended" in err
    assert "Traceback" not in err
    assert evidence(tmp_path, "stopped") == [1]


def test_metadata_that_hangs_holds_up_no_partition(
    imds: FakeImds, tmp_path: Path, drive: Callable[[dict[int, str], int], subprocess.Popen[str]]
) -> None:
    imds.fault = "hang"
    process = drive({}, 1)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out.count("done")) == (0, 6), err
    assert imds.arrived >= 1
    assert imds.answered == []
