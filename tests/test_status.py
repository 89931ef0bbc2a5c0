"""Status of a run that is under way, broken off and done: on the terminal and as JSON."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import COMMAND, backhaul_here, environment, worker_processes
from tests.e2e.corpora import write_three_partitions
from tests.e2e.poison import endless, partition_of

KEYS = {
    "corpus", "run_id", "content_digest", "bytes_digest", "rows", "stages", "attempts", "interruptions", "interruptions_exact",
    "holders", "on_demand", "parts_begun", "parts_recomputed", "seconds_lost_at_most", "failures", "generation", "live",
    "index_error",
}  # fmt: skip


def _json(conf: Path, *words: str) -> dict[str, Any]:
    outcome = backhaul_here("status", conf, *words, "--json")
    assert outcome.code == 0, outcome.err
    assert set(outcome.json) == KEYS
    return outcome.json


def _eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _counts(status: dict[str, Any], stage: str) -> tuple[int, int, int, int, int]:
    figures = status["stages"][stage]
    return tuple(figures[name] for name in ("done", "in_hand", "failed", "pending", "total"))  # type: ignore[return-value]


def test_a_run_that_was_planned_alone_has_everything_before_it(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    status = _json(conf)
    assert _counts(status, "embed") == _counts(status, "load") == (0, 0, 0, 3, 3)
    assert (status["rows"], status["attempts"], status["holders"], status["live"]) == (None, 0, [], None)
    shown = backhaul_here("status", conf).out
    assert "embed      0 of 3 partitions\n" in shown
    assert "live       nothing yet\n" in shown


def test_a_run_that_is_done_says_so_in_every_stage(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("run", conf).code == 0
    status = _json(conf)
    assert _counts(status, "embed") == _counts(status, "load") == _counts(status, "verify") == (3, 0, 0, 0, 3)
    assert (status["stages"]["load"]["finished"], status["stages"]["load"]["rows"]) == (True, 180)
    assert (status["stages"]["verify"]["passed"], status["stages"]["verify"]["current"]) == (True, True)
    assert status["stages"]["embed"]["rows_per_minute"] == pytest.approx(
        60 * status["stages"]["embed"]["partitions_per_minute"], rel=0.01
    )
    assert status["stages"]["embed"]["eta_s"] is None
    assert (status["attempts"], status["interruptions"], status["seconds_lost_at_most"]) == (6, 0, 0.0)
    shown = backhaul_here("status", conf).out
    assert "embed      3 of 3 partitions, 180 rows\n" in shown
    assert "load       3 of 3 partitions, 180 rows, finished\n" in shown
    assert "a minute" not in shown  # there is nothing left to wait for


def test_a_load_that_was_not_finished_is_said_to_be_set_for_loading(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("run", conf).code == 0
    (mark,) = (tmp_path / "root").glob("runs/*/loads/*/*/finished/*")
    mark.unlink()
    shown = backhaul_here("status", conf).out
    assert "load       3 of 3 partitions, not finished: set for loading, not for searching (backhaul load " in shown
    assert backhaul_here("load", conf).code == 0
    assert "load       3 of 3 partitions, 180 rows, finished\n" in backhaul_here("status", conf).out


def test_a_run_under_way_says_who_is_at_it_and_a_broken_one_what_was_interrupted(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path, engine={"workers": 1, "grace_s": 0.2, "on_demand_after": 1})
    assert backhaul_here("plan", conf).code == 0
    partition = partition_of(conf, "guide/")
    with endless(next((tmp_path / "source" / "guide").iterdir())), contextlib.ExitStack() as stack:
        driver = subprocess.Popen([*COMMAND, "embed", str(conf)], env=environment(), stderr=subprocess.PIPE, text=True)
        stack.callback(driver.kill)
        _eventually(lambda: _counts(_json(conf), "embed") == (1, 1, 0, 1, 3))
        (holder,) = _json(conf)["holders"]
        assert [holder["pid"]] == [worker.pid for worker in worker_processes(driver.pid)]
        assert (holder["stage"], holder["partition"], holder["host"]) == ("embed", partition, socket.gethostname())
        shown = backhaul_here("status", conf).out
        assert "embed      1 of 3 partitions; 1 in hand, 1 pending\n" in shown
        assert re.search(
            rf"^in hand    embed {partition[:12]} by {holder['host']}, process {holder['pid']}, for .*; last sign .* ago$",
            shown, re.MULTILINE)  # fmt: skip
        failure = next((tmp_path / "root" / "runs").iterdir()) / "failures" / "embed" / f"{partition}.json"
        failure.parent.mkdir(parents=True)
        failure.write_text("{}")  # it failed before, and is being tried again
        assert _counts(_json(conf), "embed") == (1, 1, 0, 1, 3)
        failure.unlink()
        os.kill(holder["pid"], signal.SIGKILL)
        _eventually(lambda: {now["pid"] for now in _json(conf)["holders"]} not in (set(), {holder["pid"]}))
        status = _json(conf)
        assert (status["attempts"], status["interruptions"]) == (3, 1)
        assert status["on_demand"] == [{"stage": "embed", "partition": partition}]
        driver.terminate()
        _, err = driver.communicate(timeout=60)
        assert driver.returncode == 75, err
    status = _json(conf)
    assert _counts(status, "embed") == (1, 0, 0, 2, 3)
    assert (status["attempts"], status["interruptions"], status["holders"]) == (3, 2, [])
    shown = backhaul_here("status", conf).out
    assert "embed      1 of 3 partitions; 2 pending\n" in shown
    assert "attempts   3, 2 of them interrupted\n" in shown
    assert f"on-demand  1 partition, interrupted too often for spot capacity: {partition[:12]}\n" in shown
    assert backhaul_here("embed", conf, "--set", "engine.workers=0").code == 0
    status = _json(conf)
    assert (status["attempts"], status["interruptions"], status["on_demand"]) == (5, 2, [])
