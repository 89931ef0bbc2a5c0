"""A small AWS Batch for tests: runs a job's real command as processes of this machine, on hosts that can be lost.

    with BatchSimulator(slots=4, minute_s=20, seed=1) as batch:
        job = batch.submit(command=[…], array_size=8, environment={…}, attempts=10)
        batch.storm(share_per_minute=0.3)
        batch.run_until_done(deadline_s=300)
    assert job.status == "SUCCEEDED"
    job.children[3].attempts[-1].exit_code, .status_reason, .stdout.read_text()

Shown as in Batch: arrays and their environment, statuses, attempts under ``evaluateOnExit`` (the project's own
function), timeouts and terminations that no rule can retry, SIGTERM to the main process and SIGKILL to all of them 30
seconds later, hosts lost with everything on them, with or without notice, dependencies, a bounded number of containers.
Seconds that Batch knows (timeouts, grace, notice) are simulated: a minute of them takes ``minute_s``. Deadlines are real.

Not shown: images and their pulls (a start fails when its command is not there, or by ``fail_starts``); memory limits,
so no OutOfMemoryError; namespaces (a process that leaves its group, as Ray's do, outlives its container; files, network
and environment of this machine are seen); scheduling by vCPU, memory, share or priority (jobs start in the order they
were submitted); capacity that does not come back; the API with its throttling and its late answers; multi-node jobs;
a lost host whose container runs on unseen. A SIGTERM with a spot notice is sent only when asked for. Two storms of one
seed take hosts of the same number after the same time, but what ran on them then depends on this machine's speed.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from cluster.retry_rules import RETRY_RULES, RetryRule, evaluate_on_exit
from tests.batch.container import CannotStart
from tests.batch.hosts import Fleet, Host, Storm
from tests.batch.jobs import ENDED, Attempt, Child, Dependency, Job, JobSpec
from tests.batch.runs import Run, now_ms

GRACE_S: Final = 30.0  # simulated, from SIGTERM to SIGKILL
EXITED: Final = "Essential container in task exited"
NOT_STARTED: Final = "Task failed to start"
TIMED_OUT: Final = "Job attempt duration exceeded timeout"
DEPENDENCY_FAILED: Final = "Dependent Job failed"
_TICK_S = 0.02


class BatchSimulator:
    """One thread: time passes in ``step`` alone. Closing it ends every process, also after an error.

    ``host_environment`` gives what processes on a host see besides (a metadata service, say), and ``on_notice`` is
    told which host will be lost, and in how many real seconds. ``start_s`` is a container's time in STARTING and
    ``replacement_s`` the time until a lost host is replaced, both simulated.
    """

    def __init__(self, *, slots: int, slots_per_host: int = 1, minute_s: float = 60.0, seed: int = 0,
                 folder: Path | None = None, start_s: float = 0.0, replacement_s: float = 0.0,
                 host_environment: Callable[[Host], Mapping[str, str]] = lambda host: {},
                 on_notice: Callable[[Host, float], None] = lambda host, left_s: None) -> None:  # fmt: skip
        self.jobs: list[Job] = []
        self._minute_s = minute_s
        self._fleet = Fleet(slots, slots_per_host, seed, self._real(replacement_s))
        self._start_s = self._real(start_s)
        self._host_environment, self._on_notice = host_environment, on_notice
        self._ids = random.Random(f"{seed} jobs")
        self._runs: list[Run] = []
        self._start_failures: deque[str] = deque()
        self._temporary = tempfile.TemporaryDirectory(prefix="batch-") if folder is None else None
        self._folder = Path(self._temporary.name) if self._temporary else folder or Path()

    def submit(self, *, command: Sequence[str], name: str = "job", array_size: int | None = None,
               environment: Mapping[str, str] | None = None, attempts: int = 1,
               rules: Sequence[RetryRule] = RETRY_RULES, timeout_s: float | None = None,
               depends_on: Sequence[Job | Dependency] = (), workdir: Path | None = None) -> Job:  # fmt: skip
        """Raises ValueError for what Batch refuses. ``timeout_s`` is simulated."""
        dependencies = [other if isinstance(other, Dependency) else Dependency(other) for other in depends_on]
        spec = JobSpec(command, array_size, environment or {}, attempts, rules, timeout_s, dependencies, workdir)
        job = Job(str(uuid.UUID(int=self._ids.getrandbits(128), version=4)), name, spec, now_ms())
        self.jobs.append(job)
        return job

    def terminate(self, job: Job, reason: str = "Terminated by the user") -> None:
        """TerminateJob: what runs gets SIGTERM and, after the grace, SIGKILL; what waits is cancelled."""
        for run in [run for run in self._runs if run.child.job is job]:
            self._stop(run, reason)
        for child in job.children:
            if child.status in ("SUBMITTED", "PENDING", "RUNNABLE"):
                child.status, child.status_reason = "FAILED", reason

    def fail_starts(self, reason: str, count: int = 1) -> None:
        """The next ``count`` containers do not start, in ECS's words."""
        self._start_failures += [reason] * count

    def reclaim(self, child: Child, *, notice_s: float = 0.0, sigterm: bool = False) -> Host:
        """Take the host on which the child runs, ``notice_s`` simulated seconds from now."""
        host = next(run.host for run in self._runs if run.child is child)
        host.notice_at, host.sigterm = time.monotonic(), sigterm
        host.dies_at = host.notice_at + self._real(notice_s)
        return host

    def storm(self, *, share_per_minute: float, notice_s: float = 0.0, sigterm: bool = False) -> None:
        """From now on a share of all hosts is taken per simulated minute, at random times."""
        self._fleet.storm(Storm(share_per_minute, self._real(notice_s), sigterm, self._minute_s), time.monotonic())

    def calm(self) -> None:
        """End the storm; hosts under notice are lost all the same."""
        self._fleet.storm(None, time.monotonic())

    @property
    def lost_hosts(self) -> list[Host]:
        return self._fleet.lost

    @property
    def running(self) -> list[Child]:
        return [run.child for run in self._runs if run.running]

    def run_until_done(self, deadline_s: float) -> None:
        """Until every job has ended. Raises TimeoutError, naming what has not."""
        self.run_until(lambda: all(job.ended for job in self.jobs), deadline_s, "every job ends")

    def run_until(self, condition: Callable[[], bool], deadline_s: float, what: str = "the condition holds") -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {deadline_s} s in vain until {what}\n{self._report()}")
            self.step()
            time.sleep(_TICK_S)

    def step(self) -> None:
        """Let time pass: each child moves by one status at most."""
        now = time.monotonic()
        for host in self._fleet.arrive(now):
            host.environment = self._host_environment(host)
        for run in [*self._runs]:
            if (code := run.exit_code()) is not None:
                self._end(run, status_reason=EXITED, exit_code=code)
        self._take_hosts(now)
        self._stop_overdue(now)
        for run in [run for run in self._runs if not run.running and run.starts_at <= now]:
            self._start(run, now)
        self._place(now)
        for job in self.jobs:
            for child in job.children:
                self._resolve(child)

    def close(self) -> None:
        with ExitStack() as stack:  # all of them, whatever goes wrong with one
            if self._temporary:
                stack.callback(self._temporary.cleanup)
            for run in self._runs:
                stack.callback(run.kill)
            self._runs = []

    def __enter__(self) -> BatchSimulator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self.close()

    def _resolve(self, child: Child) -> None:
        dependencies = child.job.spec.depends_on
        if child.status == "SUBMITTED":
            child.status = "PENDING" if dependencies else "RUNNABLE"
        elif child.status == "PENDING":
            statuses = {status for dependency in dependencies for status in dependency.statuses(child)}
            if statuses <= {"SUCCEEDED"}:
                child.status = "RUNNABLE"
            elif "FAILED" in statuses:
                child.status, child.status_reason = "FAILED", DEPENDENCY_FAILED

    def _place(self, now: float) -> None:
        for child in (child for job in self.jobs for child in job.children if child.status == "RUNNABLE"):
            if (host := self._fleet.free()) is None:
                return
            number = len(child.attempts) + 1
            output = self._folder / child.job.id / str(child.index)
            attempt = Attempt(number, host.id, output / f"{number}.stdout", output / f"{number}.stderr")
            child.attempts.append(attempt)
            child.status, child.status_reason = "STARTING", None
            self._runs.append(Run(child, attempt, host, now + self._start_s))

    def _start(self, run: Run, now: float) -> None:
        timeout_s = run.child.job.spec.timeout_s
        try:
            if self._start_failures:
                raise CannotStart(self._start_failures.popleft())
            run.start(times_out_at=now + self._real(timeout_s or math.inf))
        except CannotStart as error:
            self._end(run, status_reason=NOT_STARTED, reason=str(error))

    def _take_hosts(self, now: float) -> None:
        for host in [host for host in self._fleet.hosts if host.notice_at <= now]:
            runs = [run for run in self._runs if run.host is host]
            if not host.noticed and host.dies_at > now:
                self._on_notice(host, host.dies_at - now)
                for run in runs if host.sigterm else ():
                    run.terminate()
            host.noticed = True
            if host.dies_at <= now:
                for run in runs:
                    run.kill()
                    self._end(run, status_reason=f"Host EC2 (instance {host.id}) terminated.")
                self._fleet.lose(host, now)

    def _stop_overdue(self, now: float) -> None:
        for run in [*self._runs]:
            if run.times_out_at <= now:
                self._stop(run, TIMED_OUT)
            run.kill_when_due(now)

    def _stop(self, run: Run, words: str) -> None:
        run.stop(words, kill_at=time.monotonic() + self._real(GRACE_S))
        if not run.running:
            self._end(run, status_reason=words)

    def _end(self, run: Run, *, status_reason: str, reason: str | None = None, exit_code: int | None = None) -> None:
        self._runs.remove(run)
        run.end(status_reason=status_reason, reason=reason, exit_code=exit_code)
        child, spec = run.child, run.child.job.spec
        if run.stopped_for is None and exit_code == 0:
            child.status = "SUCCEEDED"
            return
        again = run.stopped_for is None and len(child.attempts) < spec.attempts
        if again:
            action = evaluate_on_exit(spec.rules, status_reason=status_reason, reason=reason, exit_code=exit_code)
            again = action == "RETRY"
        child.status = "RUNNABLE" if again else "FAILED"

    def _real(self, simulated_s: float) -> float:
        return simulated_s * self._minute_s / 60

    def _report(self) -> str:
        lines = []
        for child in (child for job in self.jobs for child in job.children if child.status not in ENDED):
            lines.append(f"{child.job.name} {child.id} {child.status}, attempt {len(child.attempts)}")
            if child.attempts and child.attempts[-1].stderr.exists():
                lines.append("  " + child.attempts[-1].stderr.read_text(errors="replace")[-500:].replace("\n", "\n  "))
        return "\n".join(lines)
