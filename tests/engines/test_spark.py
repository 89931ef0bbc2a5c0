"""What is particular to the Spark engine: slices, jobs that fail, the line, Java. A cluster: test_spark_cluster.py."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.engines.engine import Beat, Engine, EngineSettings, WorkSpec
from jobs.engines.on_spark import SparkEngine
from jobs.engines.spark_context import java_version
from jobs.engines.spark_jobs import slice_size
from jobs.engines.spark_line import Address, Lines, Message, connect
from jobs.engines.spark_worker import Keeper, Report, SparkSlice, Task, keeper_of
from jobs.engines.worker import Hello, Stopped
from pipelines.errors import SettingsError
from tests.contracts.engine_contract import alive, eventually, split
from tests.e2e.command import COMMAND, backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus, write_three_partitions
from tests.engines.spark_works import SparkWork
from tests.engines.works import Orders, evidence, partitions
from tests.fixtures.spark import running_context

SETTINGS = EngineSettings(name="spark", workers=2, max_attempts=2)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_context(tmp_path_factory.mktemp("spark"), SETTINGS):
        yield


@pytest.fixture
def engine(context: None) -> Engine:
    return SparkEngine(SETTINGS)


def spec(folder: Path, orders: dict[int, str]) -> WorkSpec[Orders]:
    return WorkSpec(SparkWork, Orders(str(folder), orders))


def test_poison_in_a_slice_costs_its_neighbours_nothing(engine: Engine, tmp_path: Path) -> None:
    orders = {70: "die", 71: "refuse", 73: "die-once"}
    done, failed = split(engine.run(spec(tmp_path, orders), partitions(150)))
    assert done == evidence(tmp_path, "done") == [number for number in range(150) if number not in (70, 71)]
    assert {number: (failure.cause, failure.attempts) for number, failure in failed.items()} == {
        70: ("worker died", 2), 71: ("GateRefused", 1)}  # fmt: skip
    assert evidence(tmp_path, "began").count(72) == 1


def test_many_short_partitions_share_a_task_and_few_or_long_ones_do_not() -> None:
    assert slice_size(None, 5000, slots=2) == 1  # nothing is known yet
    assert slice_size(0.001, 5000, slots=2) == 64
    assert slice_size(0.1, 5000, slots=2) == 5
    assert slice_size(30.0, 5000, slots=2) == 1
    assert slice_size(0.001, 16, slots=2) == 2  # else a slot would wait at the end
    assert slice_size(0.001, 5, slots=2) == 1


def test_a_lost_python_worker_costs_what_it_had_in_hand(engine: Engine, tmp_path: Path) -> None:
    def kill_the_keeper() -> None:
        eventually(lambda: 0 in evidence(tmp_path, "began"), "partition 0 under way")
        (mark,) = tmp_path.glob("began-0-*")
        psutil.Process(int(mark.read_text())).parent().kill()

    thread = threading.Thread(target=kill_the_keeper)
    thread.start()
    done, failed = split(engine.run(spec(tmp_path, {0: "slow-once"}), partitions(3)))
    thread.join(10)
    assert (done, failed) == ([0, 1, 2], {})
    assert evidence(tmp_path, "began").count(0) == 2


@pytest.mark.soak
def test_a_partition_that_fails_whole_jobs_is_found_given_up_and_named(engine: Engine, tmp_path: Path) -> None:
    def let_the_neighbour_end() -> None:
        eventually(lambda: evidence(tmp_path, "began").count(0) == 4, "partition 0 to have its attempts, at last alone")
        (tmp_path / "go").touch()

    thread = threading.Thread(target=let_the_neighbour_end)
    thread.start()
    done, failed = split(engine.run(spec(tmp_path, {0: "die-above", 1: "wait-for-go"}), partitions(6)))
    thread.join(10)
    assert (done, sorted(failed)) == ([1, 2, 3, 4, 5], [0])
    assert (failed[0].cause, failed[0].attempts) == ("worker died", 2)
    assert "partition 0 (000000000000) lost its worker 2 times, the last with its Spark job" in failed[0].message
    assert evidence(tmp_path, "began").count(0) == 4


def test_workers_that_cannot_reach_the_driver_work_all_the_same(
    context: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beats: list[Beat] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = SETTINGS.model_copy(
            update={"spark": SETTINGS.spark.model_copy(update={"port": taken.getsockname()[1]})}
        )
        done, failed = split(
            SparkEngine(settings).run(spec(tmp_path, {0: "chatty"}), partitions(3), on_beat=beats.append)
        )
    assert (done, failed) == ([0, 1, 2], {})
    assert beats == [Beat(3, 100)] * 20
    assert "engine.spark.port names a port" in caplog.text


def test_a_partition_in_other_hands_is_asked_for_again(engine: Engine, tmp_path: Path) -> None:
    done, failed = split(engine.run(spec(tmp_path, {0: "held-once"}), partitions(2)))
    assert (done, failed) == ([0, 1], {})
    assert evidence(tmp_path, "began").count(0) == 2


def test_a_run_begun_on_local_ends_on_spark_with_the_same_digests(context: None, tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=24, documents=20)

    def conf(name: str) -> Path:
        return write_conf(tmp_path / f"{name}.yaml", root=f"file://{tmp_path}/{name}", source=f"file://{source}",
                          partition={"target_tokens": 1000, "max_objects": 2}, embed={"rows_per_part": 8})  # fmt: skip

    wanted = backhaul_here("embed", conf("plain"), "--json", "--set", "engine.workers=0").digests
    driver = subprocess.Popen([*COMMAND, "embed", conf("mixed")], env=environment(), stderr=subprocess.DEVNULL)
    receipts = lambda: list((tmp_path / "mixed").glob("runs/*/receipts/embed/*.json"))  # noqa: E731
    eventually(lambda: len(receipts()) > 3, "some receipts")
    driver.kill()
    driver.wait()
    begun = len(receipts())
    found = backhaul_here("embed", conf("mixed"), "--json", "--engine", "spark")
    assert found.digests == wanted
    assert begun < len(receipts()) == found.json["partitions"]


def test_a_stranger_hears_nothing_on_the_line() -> None:
    heard: list[Message] = []
    lines = Lines("127.0.0.1", "127.0.0.1", 0, lambda line, message: heard.append(message))
    assert lines.address is not None
    stranger = connect(Address(lines.address.host, lines.address.port, "guessed"), lambda message: None)
    assert stranger is not None
    stranger.tell(["beat", 1, 1, False])
    worker_heard: list[Message] = []
    worker = connect(lines.address, worker_heard.append)
    assert worker is not None
    worker.tell(["beat", 2, 2, False])
    eventually(lambda: bool(heard), "the worker's beat")
    lines.say(["halt", 1.0])
    eventually(lambda: worker_heard == [["halt", 1.0]], "the driver's word")
    worker.close()
    assert lines.close(5)
    assert heard == [["beat", 2, 2, False], ["gone"]]


def test_without_pyspark_the_command_that_installs_it_is_named() -> None:
    program = """
import sys
sys.modules["pyspark"] = None
from jobs.engines.backends import open_engine
from jobs.engines.engine import EngineSettings
open_engine(EngineSettings(name="spark"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert "SettingsError: engine spark is not installed" in done.stderr
    assert "pip install 'pyspark" in done.stderr


def test_doctor_looks_for_java_when_spark_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = write_three_partitions(tmp_path)

    def java() -> dict[str, Any] | None:
        words = ["doctor", conf, "--json", "--set", "engine.workers=1", "--set", "engine.name=spark"]
        return next((check for check in backhaul_here(*words).json["checks"] if check["name"] == "java"), None)

    assert java() == {"name": "java", "ok": True, "found": f"version {java_version()}"}
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert not java()["ok"]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines("127.0.0.1", "127.0.0.1", 0, lambda line, message: None)
    yield lines
    lines.close(5)


def task(folder: Path, line: Address | None, constructor: str = "ok") -> Task:
    hello = Hello(pickle.dumps(WorkSpec(SparkWork, Orders(str(folder), {}, constructor))), logging.WARNING)
    return Task("run", hello, line, grace_s=30, watch=False, stop_on_rebalance=True, decommission=False)


def test_another_gpu_means_another_work_in_the_same_python_worker(
    lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    first = keeper_of(task(tmp_path, lines.address), "0")
    first.run(SparkSlice(0, 0, tuple(partitions(1))))
    (worker,) = alive(tmp_path)
    second = keeper_of(task(tmp_path, lines.address), "1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert alive(tmp_path) == []
    second.run(SparkSlice(0, 1, tuple(partitions(1))))
    assert keeper_of(task(tmp_path, lines.address), "1") is second
    assert [pid for pid in alive(tmp_path) if pid != worker] != []
    second.close()


def test_a_stop_waits_for_no_work_that_is_being_built(lines: Lines, tmp_path: Path) -> None:
    keeper = Keeper(task(tmp_path, lines.address, constructor="stuck"))
    reports: list[Report] = []
    thread = threading.Thread(target=lambda: reports.append(keeper.run(SparkSlice(0, 0, tuple(partitions(2))))))
    thread.start()
    eventually(lambda: bool(evidence(tmp_path, "built")), "the work under construction")
    lines.say(["halt", 30])
    thread.join(10)
    keeper.close()
    assert [answer for _, answer in reports[0].answers] == [Stopped()]
    assert alive(tmp_path) == []


def test_java_that_is_missing_or_too_old_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"JAVA_HOME is .*where there is none: .*apt-get install"):
        java_version()
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_402\"' >&2\n")
    java.chmod(0o755)
    with pytest.raises(SettingsError, match=r"needs Java 17 or later, .*bin/java is version 8: "):
        java_version()
