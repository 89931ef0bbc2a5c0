"""An attempt under way on a host of the simulator: starting, running, stopping. Knows no queue and no rule."""

from __future__ import annotations

import math
import os
import time

from tests.batch.container import Container
from tests.batch.hosts import Host
from tests.batch.jobs import Attempt, Child


class Run:
    """``stopped_for``: the attempt was timed out or terminated, in these words, and no rule is asked."""

    def __init__(self, child: Child, attempt: Attempt, host: Host, starts_at: float) -> None:
        self.child, self.attempt, self.host, self.starts_at = child, attempt, host, starts_at
        self.stopped_for: str | None = None
        self.times_out_at = self._kill_at = math.inf
        self._container: Container | None = None
        host.taken += 1

    @property
    def running(self) -> bool:
        return self._container is not None

    def start(self, *, times_out_at: float) -> None:
        """Raises CannotStart."""
        spec, attempt = self.child.job.spec, self.attempt
        self._container = Container(
            spec.command, {**self._environment(), **self.host.environment, **spec.environment}, spec.workdir,
            stdout=attempt.stdout, stderr=attempt.stderr)  # fmt: skip
        attempt.started_at = now_ms()
        self.times_out_at = times_out_at
        self.child.status = "RUNNING"

    def exit_code(self) -> int | None:
        return None if self._container is None else self._container.exit_code()

    def terminate(self) -> None:
        if self._container is not None:
            self._container.terminate()

    def stop(self, words: str, kill_at: float) -> None:
        """SIGTERM now and SIGKILL then, and no more attempts. A second stop changes nothing."""
        self.times_out_at = math.inf
        if self.stopped_for is None:
            self.stopped_for, self._kill_at = words, kill_at
            self.terminate()

    def kill_when_due(self, now: float) -> None:
        if self._kill_at <= now:
            self.kill()

    def kill(self) -> None:
        if self._container is not None:
            self._container.kill()

    def end(self, *, status_reason: str, reason: str | None, exit_code: int | None) -> None:
        self.host.taken -= 1
        self.attempt.stopped_at, self.attempt.exit_code, self.attempt.reason = now_ms(), exit_code, reason
        self.attempt.status_reason = self.child.status_reason = self.stopped_for or status_reason

    def _environment(self) -> dict[str, str]:
        child, size = self.child, self.child.job.spec.array_size
        around = {name: value for name, value in os.environ.items() if not name.startswith("AWS_BATCH_")}
        batch = {"AWS_BATCH_JOB_ID": child.id, "AWS_BATCH_JOB_ATTEMPT": str(self.attempt.number),
                 "AWS_BATCH_JQ_NAME": "simulated", "AWS_BATCH_CE_NAME": "simulated"}  # fmt: skip
        array = {"AWS_BATCH_JOB_ARRAY_INDEX": str(child.index), "AWS_BATCH_JOB_ARRAY_SIZE": str(size)}
        return {**around, **batch, **(array if size is not None else {})}


def now_ms() -> int:
    return int(time.time() * 1000)
