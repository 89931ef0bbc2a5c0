"""One run description gives one manifest: on every engine, with one and two workers, begun on one and ended on another."""

from __future__ import annotations

import gzip
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.batch.simulator import BatchSimulator
from tests.e2e.command import COMMAND, PROJECT, backhaul, environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.crash import EMBEDDERS
from tests.fixtures.spark import SparkCluster, running_spark

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
WAYS = ["local", "ray", "spark", "spark-submit", "batch_array"]
CHANGES = [("local", "spark"), ("spark", "ray"), ("ray", "batch_array"), ("batch_array", "spark-submit"),
           ("spark-submit", "local")]  # fmt: skip
DEADLINE_S = 400.0


@dataclass(frozen=True)
class Corpus:
    source: Path
    sections: dict[str, Any]
    partitions: int

    def conf(self, folder: Path, workers: int) -> Path:
        """A run of its own, planned."""
        engine = {"workers": workers, "lease": {"ttl_s": 6, "max_skew_s": 0}, "batch_array": {"idle_s": 7}}
        conf = write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{self.source}",
                          engine=engine, **self.sections)  # fmt: skip
        assert backhaul("plan", conf, "--json").json["partitions"] == self.partitions
        return conf


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """2,000 partitions for the hash embedder."""
    source = write_corpus(tmp_path_factory.mktemp("many") / "source", objects=2000, documents=10, words=90)
    return Corpus(source, {"partition": {"target_tokens": 1000, "max_objects": 2}}, 2000)


@pytest.fixture(scope="module", params=[name for name in EMBEDDERS if name != "hash"])
def scifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """500 SciFact documents for real models, whose vectors depend on batches and threads."""
    path = Path(os.environ.get("BACKHAUL_DATA", PROJECT.parent / "shared" / "data")) / "scifact" / "corpus.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no labelled data at {path}; set BACKHAUL_DATA")
    source = tmp_path_factory.mktemp("scifact") / "source"
    source.mkdir()
    with gzip.open(path) as lines:
        rows = [orjson.loads(line) for line in itertools.islice(lines, 500)]
    for number in range(10):
        (source / f"{number}.jsonl").write_bytes(b"".join(
            orjson.dumps({"id": row["_id"], "title": row["title"], "text": row["text"], "kind": "abstract"}) + b"\n"
            for row in rows[number * 50 : number * 50 + 50]))  # fmt: skip
    embed = {**EMBEDDERS[request.param], "rows_per_part": 16}
    return Corpus(source, {"partition": {"target_tokens": 10_000, "max_objects": 2}, "embed": embed}, 14)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    with running_spark(tmp_path_factory.mktemp("spark"), workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    subprocess.run(["make", "--silent", "spark-archive", f"DIST={folder}"], cwd=PROJECT, check=True, timeout=120)
    (found,) = folder.glob("backhaul-*.zip")
    return found


@dataclass(frozen=True)
class Submit:
    cluster: SparkCluster
    archive: Path

    def command(self, conf: Path, workers: int) -> list[str]:
        return self.cluster.submit("--py-files", self.archive, "--total-executor-cores", str(workers),
                                   PROJECT / "jobs" / "spark_entry.py", "embed", conf, "--engine", "spark")  # fmt: skip


@pytest.fixture(scope="module")
def spark(cluster: SparkCluster, archive: Path) -> Submit:
    return Submit(cluster, archive)


@pytest.fixture(scope="module")
def expected() -> dict[Path, tuple[str, str]]:
    """The digests that the first way gave a corpus: every other must give the same."""
    return {}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_every_engine_gives_the_same_bytes_of_many_partitions(way: str, workers: int, many: Corpus, tmp_path: Path,
                                                             spark: Submit,
                                                             expected: dict[Path, tuple[str, str]]) -> None:  # fmt: skip
    conf = many.conf(tmp_path, workers)
    run_to_the_end(way, conf, workers, spark)
    must_equal(conf, many, expected)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_every_engine_gives_the_same_bytes_of_scifact(way: str, workers: int, scifact: Corpus, tmp_path: Path,
                                                     spark: Submit,
                                                     expected: dict[Path, tuple[str, str]]) -> None:  # fmt: skip
    conf = scifact.conf(tmp_path, workers)
    run_to_the_end(way, conf, workers, spark)
    must_equal(conf, scifact, expected)


@pytest.mark.parametrize(("first", "then"), CHANGES)
def test_a_run_begun_on_one_engine_ends_on_another(first: str, then: str, many: Corpus, tmp_path: Path,
                                                   spark: Submit,
                                                   expected: dict[Path, tuple[str, str]]) -> None:  # fmt: skip
    conf = many.conf(tmp_path, 2)
    receipts = next((tmp_path / "root" / "runs").iterdir()) / "receipts" / "embed"
    driver = start(first, conf, 2, spark)
    deadline = time.monotonic() + DEADLINE_S
    while not receipts.is_dir() or len(os.listdir(receipts)) < many.partitions // 4:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == (143 if first == "spark-submit" else 75)  # spark-submit is a JVM
    done = len(os.listdir(receipts))
    assert many.partitions // 4 <= done < many.partitions
    run_to_the_end(then, conf, 2, spark)
    must_equal(conf, many, expected)


def must_equal(conf: Path, corpus: Corpus, expected: dict[Path, tuple[str, str]]) -> None:
    digests = backhaul("embed", conf, "--json").digests  # nothing is embedded any more
    assert digests == expected.setdefault(corpus.source, digests)


def run_to_the_end(way: str, conf: Path, workers: int, spark: Submit) -> None:
    if way == "batch_array":
        with BatchSimulator(slots=workers) as batch:
            job = batch.submit(command=[*COMMAND, "embed", str(conf), "--engine", "batch_array", "--set",
                                        "engine.workers=0"],
                               array_size=max(2, workers), environment=environment())  # fmt: skip
            batch.run_until_done(DEADLINE_S)
            assert job.status == "SUCCEEDED", [child.attempts[-1].stderr.read_text() for child in job.children]
        return
    driver = start(way, conf, workers, spark)
    _, err = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, err


def start(way: str, conf: Path, workers: int, spark: Submit) -> subprocess.Popen[str]:
    command = [*COMMAND, "embed", str(conf), "--engine", way]
    env = environment()
    if way == "spark-submit":
        env = environment(spark.cluster.environment)
        command = spark.command(conf, workers)
    if way == "batch_array":
        command += ["--index", "0", "--of", "1"]
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip
