"""The Spark engine on a real standalone cluster of two workers: spark-submit, GPUs, lost and leaving executors, copies."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from jobs.engines.engine import EngineSettings, WorkSpec
from jobs.engines.on_spark import SparkEngine
from pipelines.errors import Interrupted
from tests.contracts.engine_contract import eventually, split
from tests.e2e.command import PROJECT, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.engines.spark_works import SparkWork
from tests.engines.works import Orders, evidence, partitions
from tests.fixtures.imds import fake_imds
from tests.fixtures.spark import SparkCluster, running_context, running_spark


@pytest.fixture(scope="module")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    with running_spark(tmp_path_factory.mktemp("spark"), workers=2, gpus=[3, 5]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    make = ["make", "--silent", "-o", ".venv/.all", "spark-archive", f"DIST={folder}"]
    subprocess.run(make, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    (found,) = folder.glob("backhaul-*.zip")
    return found


def python_without_the_project(folder: Path) -> Path:
    """It has the packages of ours, but reads no .pth, and one of those is what leads to the project."""
    script = folder / "python"
    packages = sysconfig.get_path("purelib")
    script.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{packages}"\nexec {sys.executable} -S "$@"\n'
    )
    script.chmod(0o700)
    return script


def test_spark_submit_with_the_archive_gives_the_digests_of_local(
    spark_cluster: SparkCluster, archive: Path, tmp_path: Path
) -> None:
    source = write_corpus(tmp_path / "source", objects=24, documents=40)

    def conf(name: str) -> Path:
        return write_conf(tmp_path / f"{name}.yaml", root=f"file://{tmp_path}/{name}", source=f"file://{source}",
                          partition={"target_tokens": 2000, "max_objects": 2})  # fmt: skip

    wanted = backhaul_here("embed", conf("here"), "--json", "--set", "engine.workers=0").digests
    entry = tmp_path / "spark_entry.py"  # as it is when fetched from a bucket: alone
    entry.write_bytes((PROJECT / "jobs" / "spark_entry.py").read_bytes())
    python = python_without_the_project(tmp_path)
    command = spark_cluster.submit("--conf", f"spark.pyspark.python={python}", "--py-files", archive, entry,
                                   "embed", conf("there"), "--engine", "spark", "--json")  # fmt: skip
    environment = {name: value for name, value in spark_cluster.environment.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = orjson.loads(line)
    assert (found["content_digest"], found["bytes_digest"]) == wanted
    assert found["partitions"] > 10


@contextmanager
def joined(cluster: SparkCluster, folder: Path, conf: dict[str, str], gpus_per_task: int = 0) -> Iterator[SparkEngine]:
    """An engine in this process whose executors are the cluster's."""
    spark = {"master": cluster.master, "conf": conf, "gpus_per_task": gpus_per_task}
    settings = EngineSettings.model_validate({"name": "spark", "max_attempts": 2, "grace_s": 5, "spark": spark})
    with running_context(folder, settings, cluster.environment):
        yield SparkEngine(settings)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """The folder that takes the evidence."""
    (tmp_path / "seen").mkdir()
    return tmp_path / "seen"


def spec(seen: Path, orders: dict[int, str]) -> WorkSpec[Orders]:
    return WorkSpec(SparkWork, Orders(str(seen), orders))


@pytest.mark.soak
def test_a_killed_executor_costs_the_parts_in_hand(spark_cluster: SparkCluster, tmp_path: Path, seen: Path) -> None:
    def kill() -> None:
        eventually(lambda: {4, 5} <= set(evidence(seen, "began")), "the slow partitions under way")
        spark_cluster.executors()[0].kill()
        eventually(lambda: len(evidence(seen, "began")) == 7, "one of them under way again")
        (seen / "go").touch()

    thread = threading.Thread(target=kill)
    with joined(spark_cluster, tmp_path, {}) as engine:
        thread.start()
        done, failed = split(engine.run(spec(seen, {4: "wait-for-go", 5: "wait-for-go"}), partitions(6)))
        thread.join(10)
    assert (done, failed) == (list(range(6)), {})
    assert evidence(seen, "done") == list(range(6))


@pytest.mark.soak
def test_a_speculative_copy_changes_nothing_and_the_slower_one_ends(
    spark_cluster: SparkCluster, tmp_path: Path, seen: Path
) -> None:
    def go_when_stopped() -> None:
        eventually(lambda: evidence(seen, "stopped") == [0], "the slower one to be told")
        (seen / "go").touch()

    copies = {"spark.speculation": "true", "spark.speculation.interval": "100ms", "spark.speculation.multiplier": "1.5",
              "spark.speculation.quantile": "0.5", "spark.speculation.minTaskRuntime": "1s"}  # fmt: skip
    thread = threading.Thread(target=go_when_stopped)
    with joined(spark_cluster, tmp_path, copies) as engine:
        thread.start()
        done, failed = split(engine.run(spec(seen, {0: "slow-once", 7: "held-until-go"}), partitions(8)))
        thread.join(10)
    assert (done, failed) == (list(range(8)), {})
    assert evidence(seen, "began").count(0) == 2
    assert evidence(seen, "stopped") == [0]


@pytest.mark.soak
def test_each_worker_sees_the_gpu_that_spark_gave_it(spark_cluster: SparkCluster, tmp_path: Path, seen: Path) -> None:
    with joined(spark_cluster, tmp_path, {"spark.executor.resource.gpu.amount": "1"}, gpus_per_task=1) as engine:
        done, failed = split(engine.run(spec(seen, dict.fromkeys(range(12), "gpu")), partitions(12)))
    assert (done, failed) == (list(range(12)), {})
    assert set(evidence(seen, "gpu")) == {3, 5}


@pytest.mark.soak
def test_a_notice_hands_the_partition_back_and_decommissions_the_executor(
    spark_cluster: SparkCluster, tmp_path: Path, seen: Path
) -> None:
    """Both workers are on one host, which is told that it goes away while partition 0 is under way."""
    before: set[int] = set()

    def announce() -> None:
        eventually(lambda: 0 in evidence(seen, "began"), "partition 0 under way")
        before.update(process.pid for process in spark_cluster.executors())
        imds.announce_spot()
        eventually(lambda: evidence(seen, "stopped") == [0], "the work to be told")
        eventually(
            lambda: not before & {process.pid for process in spark_cluster.executors()}, "the executors to leave"
        )
        imds.metadata.clear()

    thread = threading.Thread(target=announce)
    with fake_imds() as imds:
        told = {f"spark.executorEnv.{name}": value for name, value in imds.environment().items()}
        with joined(spark_cluster, tmp_path, told) as engine:
            thread.start()
            done, failed = split(engine.run(spec(seen, {0: "slow-once"}), partitions(3)))
            thread.join(60)
    assert (done, failed) == ([0, 1, 2], {})
    assert before


@pytest.mark.soak
def test_when_all_hosts_are_to_go_and_stay_the_run_ends_as_interrupted(
    spark_cluster: SparkCluster, tmp_path: Path, seen: Path
) -> None:
    with fake_imds() as imds:
        imds.announce_rebalance()
        told = {f"spark.executorEnv.{name}": value for name, value in imds.environment().items()}
        with joined(spark_cluster, tmp_path, {**told, "spark.decommission.enabled": "false"}) as engine:
            outcomes = engine.run(spec(seen, {0: "slow"}), partitions(1))
            with pytest.raises(Interrupted, match=r"0 of 1 partitions ended .all workers' hosts go away"):
                list(outcomes)
    assert evidence(seen, "done") == []


@pytest.mark.soak
def test_executors_without_the_project_are_named(spark_cluster: SparkCluster, tmp_path: Path, seen: Path) -> None:
    conf = {"spark.pyspark.python": str(python_without_the_project(tmp_path))}
    with joined(spark_cluster, tmp_path, conf) as engine:
        done, failed = split(engine.run(spec(seen, {}), partitions(20)))
    assert (done, sorted(failed)) == ([], list(range(20)))
    assert "are Backhaul and its requirements on the executors?" in failed[19].message
    assert "No module named 'jobs'" in failed[19].message
