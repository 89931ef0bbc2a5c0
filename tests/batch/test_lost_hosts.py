"""Hosts that the simulator takes away: at once, with notice, in storms."""

from __future__ import annotations

import math
import re
from pathlib import Path

from tests.batch.hosts import Fleet, Host, Storm
from tests.batch.programs import DEADLINE_S, NAPPING, OBEDIENT, STUBBORN, alive, await_end, python, until_up
from tests.batch.simulator import BatchSimulator


def test_a_lost_host_takes_the_whole_process_group_and_the_child_runs_again_elsewhere(batch: BatchSimulator) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "again = os.environ['AWS_BATCH_JOB_ATTEMPT'] == '2'\n"
        f"again or print(subprocess.Popen([sys.executable, '-S', '-c', {NAPPING!r}]).pid, flush=True)\n"
        "again or time.sleep(600)"
    )
    job = batch.submit(command=python(program), attempts=10)
    until_up(batch, job.children[0])
    grandchild = int(job.attempts[0].stdout.read_text())
    assert alive(grandchild)
    host = batch.reclaim(job.children[0])
    batch.run_until_done(DEADLINE_S)
    await_end(grandchild)
    lost, done = job.attempts
    assert (lost.status_reason, lost.exit_code) == (f"Host EC2 (instance {host.id}) terminated.", None)
    assert re.fullmatch("i-[0-9a-f]{17}", host.id)
    assert lost.host_lost
    assert done.exit_code == 0
    assert done.host != lost.host
    assert batch.lost_hosts == [host]


def test_a_host_is_lost_with_all_that_runs_on_it(tmp_path: Path) -> None:
    with BatchSimulator(slots=4, slots_per_host=2, minute_s=1.0, folder=tmp_path) as batch:
        job = batch.submit(command=python(NAPPING), array_size=4, attempts=2)
        batch.run_until(lambda: len(batch.running) == 4, DEADLINE_S)
        batch.reclaim(job.children[0])
        batch.step()
        assert sorted(child.index for child in batch.running) == [2, 3]


def test_a_notice_with_sigterm_lets_the_child_leave_in_time(batch: BatchSimulator) -> None:
    job = batch.submit(command=python(OBEDIENT), attempts=2)
    until_up(batch, job.children[0])
    host = batch.reclaim(job.children[0], notice_s=6000, sigterm=True)
    batch.run_until(lambda: len(job.attempts) == 2, DEADLINE_S)
    assert (job.attempts[0].exit_code, job.attempts[0].status_reason) == (75, "Essential container in task exited")
    assert job.attempts[1].host != host.id  # which still lives, but takes nothing more
    assert batch.lost_hosts == []


def test_who_stays_after_the_notice_goes_with_the_host(batch: BatchSimulator) -> None:
    job = batch.submit(command=python(STUBBORN), attempts=2)
    until_up(batch, job.children[0])
    host = batch.reclaim(job.children[0], notice_s=12, sigterm=True)
    batch.run_until(lambda: job.attempts[0].host_lost, DEADLINE_S)
    assert batch.lost_hosts == [host]


def test_a_notice_is_told_and_a_hosts_processes_see_its_environment(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []

    def tell(host: Host, left_s: float) -> None:
        told.append((host.id, left_s))

    with BatchSimulator(slots=1, minute_s=1.0, folder=tmp_path, on_notice=tell,
                        host_environment=lambda host: {"HOST": host.id}) as batch:  # fmt: skip
        job = batch.submit(command=python("import os, time; print(os.environ['HOST'], flush=True); time.sleep(600)"))
        until_up(batch, job.children[0])
        host = batch.reclaim(job.children[0], notice_s=120)
        batch.step()
        batch.step()
    (notice,) = told
    assert notice[0] == host.id == job.attempts[0].stdout.read_text().strip()
    assert 0 < notice[1] <= 2.0  # two simulated minutes


def test_a_storm_takes_hosts_until_it_calms_and_the_work_is_done(tmp_path: Path) -> None:
    with BatchSimulator(slots=4, minute_s=0.4, seed=7, folder=tmp_path) as batch:
        job = batch.submit(command=python("import time; time.sleep(0.2)"), array_size=8, attempts=10)
        batch.storm(share_per_minute=0.3)
        batch.run_until(lambda: len(batch.lost_hosts) >= 3, DEADLINE_S)
        batch.calm()
        lost = len(batch.lost_hosts)
        batch.run_until_done(DEADLINE_S)
        assert len(batch.lost_hosts) == lost
    assert job.status == "SUCCEEDED"


def lifetimes(seed: int, share: float = 0.3) -> list[float]:
    fleet = Fleet(2000, 1, seed, replacement_s=0)
    fleet.arrive(now=0.0)
    assert {host.dies_at for host in fleet.hosts} == {math.inf}
    fleet.storm(Storm(share, notice_s=2.0, sigterm=False, minute_s=20.0), now=0.0)
    assert {round(host.dies_at - host.notice_at, 6) for host in fleet.hosts} == {2.0}
    return [host.notice_at for host in fleet.hosts]


def test_a_storm_takes_its_share_of_each_minute() -> None:
    ends = lifetimes(seed=1)
    first, second = (sum(20 * minute < end <= 20 * (minute + 1) for end in ends) for minute in (0, 1))
    assert 0.27 < first / 2000 < 0.33
    assert 0.27 < second / (2000 - first) < 0.33


def test_a_storm_obeys_its_seed() -> None:
    assert lifetimes(seed=1) == lifetimes(seed=1) != lifetimes(seed=2)


def test_a_host_that_comes_during_a_storm_has_its_end_before_it() -> None:
    fleet = Fleet(1, 1, 0, replacement_s=0)
    (first,) = fleet.arrive(now=0.0)
    fleet.storm(Storm(0.3, notice_s=0.0, sigterm=True, minute_s=20.0), now=0.0)
    fleet.lose(first, now=50.0)
    (second,) = fleet.arrive(now=50.0)
    assert 50 < second.dies_at < math.inf
    assert second.sigterm


def test_a_lost_host_is_replaced_after_a_while(tmp_path: Path) -> None:
    with BatchSimulator(slots=1, minute_s=1.0, folder=tmp_path, replacement_s=3600) as batch:
        job = batch.submit(command=python(NAPPING), attempts=2)
        batch.run_until(lambda: bool(batch.running), DEADLINE_S)
        batch.reclaim(job.children[0])
        for _ in range(5):
            batch.step()
        assert job.status == "RUNNABLE"


def test_a_calm_spares_the_hosts_without_notice_alone() -> None:
    fleet = Fleet(2, 1, 0, replacement_s=0)
    noticed, spared = fleet.arrive(now=0.0)
    fleet.storm(Storm(0.3, notice_s=40.0, sigterm=True, minute_s=20.0), now=0.0)
    dies_at, noticed.noticed = noticed.dies_at, True
    fleet.storm(None, now=1.0)
    assert (noticed.dies_at, spared.dies_at) == (dies_at, math.inf)
