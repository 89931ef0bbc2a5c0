"""The Spark engine on a real standalone cluster of two workers: spark-submit, GPUs, lost and leaving executors, copies."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from jobs.engines.engine import EngineSettings, WorkSpec
from jobs.engines.on_spark import SparkEngine
from tests.contracts.engine_contract import alive, eventually, split
from tests.e2e.command import PROJECT, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.engines.spark_works import SparkWork
from tests.engines.works import Orders, evidence, partitions
from tests.fixtures.imds import FakeImds
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
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = orjson.loads(line)
    assert (found["content_digest"], found["bytes_digest"]) == wanted
    assert found["partitions"] > 10
