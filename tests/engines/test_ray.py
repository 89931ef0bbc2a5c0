"""What is particular to the Ray engine: nodes that come, go, are drained or lost; resources; a cluster of its own."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.engines.engine import Done, EngineSettings, Failed, Outcome, RaySettings, WorkSpec
from jobs.engines.on_ray import RayEngine
from pipelines.errors import BackhaulError
from pipelines.partition import Partition
from tests.e2e.command import COMMAND, PROJECT, backhaul, backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.engines.works import EvidenceWork, Orders, evidence, partitions
from tests.fixtures.imds import fake_imds
from tests.fixtures.ray_cluster import RayNodes

DEADLINE_S = 90.0
ONE_GPU = {"cpus_per_worker": 0, "gpus_per_worker": 1}  # one worker on each node beside the head


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.02)


class Run:
    """A run of the engine in a thread, so that a test can act on its cluster meanwhile."""

    def __init__(self, folder: Path, orders: dict[int, str], count: int, *, workers: int = 1, max_attempts: int = 1,
                 **ray: float) -> None:  # fmt: skip
        self.folder = folder
        settings = EngineSettings(workers=workers, max_attempts=max_attempts, ray=RaySettings(**{**ONE_GPU, **ray}))  # type: ignore[arg-type]
        spec = WorkSpec(HostWork, Orders(str(folder), orders))
        self._outcomes: list[Outcome] = []
        self._iterator = RayEngine(settings).run(spec, partitions(count))
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcomes.extend(self._iterator)
        except BaseException as error:
            self._error = error

    def under_way(self, number: int) -> int:
        """The process that has the partition in hand."""
        until(lambda: bool(self._begun(number)) or not self._thread.is_alive(), f"partition {number} under way")
        if self._error:
            raise self._error
        return int(self._begun(number))

    def _begun(self, number: int) -> str:
        return "".join(path.read_text() for path in [*self.folder.glob(f"began-{number}-*")][:1])

    def outcomes(self) -> list[Outcome]:
        """Of the whole run, by partition."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the run does not end"
        if self._error:
            raise self._error
        return sorted(self._outcomes, key=lambda outcome: outcome.partition.number)

    def receipts(self) -> list[dict[str, Any]]:
        """Of a run in which every partition was done."""
        outcomes = self.outcomes()
        assert all(isinstance(outcome, Done) for outcome in outcomes), outcomes
        return [outcome.receipt for outcome in outcomes if isinstance(outcome, Done)]


class Said:
    """What was printed, by whomever."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.out, self._err, self._capfd = "", "", capfd

    def err(self) -> str:
        more = self._capfd.readouterr()
        self.out, self._err = self.out + more.out, self._err + more.err
        return self._err


class HostWork(EvidenceWork):
    """Its receipts tell where it ran: a worker is a child of its node's raylet. On the node named in the folder's file
    ``doomed`` it goes on until it is told to stop."""

    def __call__(self, partition: Partition) -> dict[str, Any]:
        doomed = Path(self._settings.folder, "doomed")
        if doomed.exists() and doomed.read_text() == str(os.getppid()):
            self._slow(partition)
        return {**super().__call__(partition), "node": os.getppid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}


def raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def test_a_partition_lost_with_its_node_is_done_on_another(
    ray_nodes: RayNodes, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = {raylet(node): node for node in ray_nodes.exactly(2)}
    with caplog.at_level(logging.WARNING):
        run = Run(tmp_path, {0: "slow-once"}, 6, workers=2, max_attempts=2)
        lost = psutil.Process(run.under_way(0)).ppid()
        ray_nodes.kill(nodes.pop(lost))
        receipts = run.receipts()
    assert receipts[0]["node"] in nodes
    assert evidence(tmp_path, "began").count(0) == 2
    # Its connection may break before the cluster knows why.
    assert re.search(r"worker died \((gone with its node|out of reach).*\) on partition 0, attempt 1", caplog.text)
    said = Said(capfd)
    until(lambda: "has been marked dead" in said.err(), "Ray's own word on the node")
    assert said.out == ""


def test_a_run_goes_on_with_those_that_have_room_says_who_waits_and_uses_a_node_that_joins(
    ray_nodes: RayNodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = ray_nodes.exactly(1)
    with caplog.at_level(logging.WARNING):
        run = Run(tmp_path, {0: "meet", 1: "meet"}, 4, workers=3)
        run.under_way(0)
        until(lambda: "1 of 3 workers are placed" in caplog.text, "a line about the others")
        second = ray_nodes.add(gpus=1)
        receipts = run.receipts()
    assert "1 of 3 workers are placed, the others start or wait for room: each asks for CPU 0, GPU 1, " in caplog.text
    assert "and the cluster has CPU 4 (4 free), GPU 1 (0 free) on 2 nodes" in caplog.text
    assert {receipt["node"] for receipt in receipts} == {raylet(first), raylet(second)}


def test_without_room_for_any_worker_a_run_ends_and_names_what_is_missing(ray_nodes: RayNodes, tmp_path: Path) -> None:
    run = Run(tmp_path, {}, 3, workers=2, gpus_per_worker=4, placement_timeout_s=1)
    with pytest.raises(
        BackhaulError, match="no worker could be placed in 1 s: each asks for CPU 0, GPU 4, and the cluster"
    ):
        run.outcomes()


def test_two_workers_share_a_gpu(ray_nodes: RayNodes, tmp_path: Path) -> None:
    ray_nodes.exactly(1)
    run = Run(tmp_path, {0: "meet", 1: "meet"}, 4, workers=3, gpus_per_worker=0.5)
    receipts = run.receipts()
    assert {receipt["gpus"] for receipt in receipts} == {"0"}
    assert len({receipt["pid"] for receipt in receipts}) == 2


def test_a_drained_node_finishes_the_part_in_hand_and_its_partition_moves(ray_nodes: RayNodes, tmp_path: Path) -> None:
    nodes = {raylet(node): node for node in ray_nodes.exactly(2)}
    run = Run(tmp_path, {0: "slow-once"}, 1)
    drained = psutil.Process(run.under_way(0)).ppid()
    ray_nodes.drain(nodes[drained], in_s=60)
    (receipt,) = run.receipts()  # though one attempt is all there is
    ray_nodes.kill(nodes.pop(drained))
    assert evidence(tmp_path, "stopped") == [0]
    assert receipt["node"] in nodes


def test_a_worker_whose_host_has_a_spot_notice_finishes_its_part_and_its_partition_moves(
    ray_nodes: RayNodes, tmp_path: Path
) -> None:
    ray_nodes.exactly(0)
    with fake_imds() as imds:
        imds.announce_spot()
        noticed = ray_nodes.add(gpus=1, env=imds.environment())
        (tmp_path / "doomed").write_text(str(raylet(noticed)))
        run = Run(tmp_path, {}, 1)
        imds.wait_for(lambda: imds.count() >= 1, "the notice to be read")
        other = ray_nodes.add(gpus=1)
        (receipt,) = run.receipts()  # though one attempt is all there is
        ray_nodes.kill(noticed)
    assert receipt["node"] == raylet(other)
    assert len(evidence(tmp_path, "built")) == 2  # the next worker waited for another node


@pytest.mark.soak
def test_a_worker_ended_by_the_memory_monitor_is_named_so(ray_nodes: RayNodes, tmp_path: Path) -> None:
    ray_nodes.exactly(0)
    node = ray_nodes.add(gpus=1, env={"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"})
    (failed,) = Run(tmp_path, {0: "slow"}, 1).outcomes()
    ray_nodes.kill(node)
    assert isinstance(failed, Failed)
    assert failed.cause == "worker died"
    assert "killed by Ray's memory monitor: its node was running low on memory" in failed.message


@pytest.mark.soak
def test_nodes_that_cannot_import_the_project_are_told_apart_from_workers_that_die(
    ray_nodes: RayNodes, tmp_path: Path
) -> None:
    ray_nodes.exactly(0)
    (tmp_path / "orjson.py").write_text("raise ImportError('no orjson on this node')")
    node = ray_nodes.add(gpus=1, env={"PYTHONPATH": str(tmp_path)})
    outcomes = Run(tmp_path, {}, 2, workers=2).outcomes()
    ray_nodes.kill(node)
    assert [outcome.cause for outcome in outcomes if isinstance(outcome, Failed)] == ["ImportError"] * 2
    assert "a worker cannot start on the cluster's nodes (ImportError: no orjson on this node)" in str(outcomes[0])
    assert evidence(tmp_path, "built") == []


@pytest.mark.soak  # the storm of tests/e2e/test_crash_ray.py is the short form
def test_a_killed_driver_takes_its_workers_along_and_another_resumes_to_the_same_bytes(
    ray_nodes: RayNodes, tmp_path: Path
) -> None:
    source = write_corpus(tmp_path / "source", objects=12, documents=300)
    confs = {
        name: write_conf(tmp_path / f"{name}.yaml", root=f"file://{tmp_path}/{name}", source=f"file://{source}",
                         partition={"target_tokens": 4_000}, embed={"rows_per_part": 16},
                         engine={"name": name, "workers": workers})
        for name, workers in [("local", 0), ("ray", 2)]
    }  # fmt: skip
    driver = subprocess.Popen([*COMMAND, "embed", str(confs["ray"])], env=environment(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    begun = tmp_path / "ray" / "runs"
    until(lambda: any(begun.glob("*/receipts/embed/*.json")), "a partition done")
    driver.kill()
    driver.wait()
    pids = {json.loads(mark.read_text())["pid"] for mark in begun.glob("*/attempts/embed/*/*/*")}
    until(lambda: not any(map(psutil.pid_exists, pids)), "the workers to end")
    committed = len([*begun.glob("*/receipts/embed/*.json")])
    resumed = backhaul("embed", confs["ray"], "--json")
    assert 0 < committed < resumed.json["partitions"]
    assert backhaul_here("embed", confs["local"], "--json").code == 0
    assert resumed.digests == backhaul_here("status", confs["local"], "--json").digests


OWN_CLUSTER = """
import sys
from jobs.engines.engine import EngineSettings, RaySettings, WorkSpec
from jobs.engines.on_ray import RayEngine
from pipelines.errors import SettingsError
from tests.engines.works import EvidenceWork, Orders, partitions
spec = WorkSpec(EvidenceWork, Orders(sys.argv[1], {1: "stuck"}))
for wrong in [RaySettings(address="ray://head:10001"), RaySettings(cpus_per_worker=1000)]:
    try:
        list(RayEngine(EngineSettings(workers=1, ray=wrong)).run(spec, partitions(2)))
    except SettingsError as error:
        print(error, file=sys.stderr)
for outcome in RayEngine(EngineSettings(workers=1)).run(spec, partitions(2)):
    print("done", outcome.partition.number, flush=True)
"""


def test_nothing_of_a_cluster_that_a_run_started_outlives_its_driver_and_it_listens_to_nobody_else(
    tmp_path: Path,
) -> None:
    evidences, temporary = tmp_path / "evidence", tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    evidences.mkdir()
    env = {**environment({"RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": temporary})}
    env.pop("RAY_ADDRESS", None)
    env.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    with open(tmp_path / "err", "w+") as err:
        driver = subprocess.Popen([sys.executable, "-c", OWN_CLUSTER, str(evidences)], cwd=PROJECT, env=env,
                                  stdout=subprocess.PIPE, stderr=err, text=True)  # fmt: skip
        until(lambda: 1 in evidence(evidences, "began") or driver.poll() is not None, "a partition under way")
        started = psutil.Process(driver.pid).children(recursive=True)
        listening = {c.laddr.ip for p in [psutil.Process(driver.pid), *started] for c in p.net_connections("tcp")
                     if c.status == psutil.CONN_LISTEN}  # fmt: skip
        driver.kill()
        out, _ = driver.communicate()
        _, left = psutil.wait_procs(started, timeout=20)
        shutil.rmtree(temporary, ignore_errors=True)
        err.seek(0)
        said = err.read()
    assert out == "done 0\n", said
    assert "ray://head:10001 is Ray Client's" in said
    assert "no worker fits on this machine: each asks for CPU 1000, GPU 0, and it has CPU" in said
    assert len(started) >= 6  # gcs_server, raylet, their agents, workers
    assert left == []
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
