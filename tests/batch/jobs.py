"""Jobs of the simulator: what was submitted, its children and their attempts, as DescribeJobs shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from cluster.retry_rules import RetryRule, retry_strategy

Status = Literal["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]
ENDED: Final = ("SUCCEEDED", "FAILED")


@dataclass(frozen=True)
class JobSpec:
    """What a job definition and SubmitJob say together. Refuses what Batch refuses."""

    command: Sequence[str]
    array_size: int | None
    environment: Mapping[str, str]
    attempts: int
    rules: Sequence[RetryRule]
    timeout_s: float | None
    depends_on: Sequence[Dependency]
    workdir: Path | None

    def __post_init__(self) -> None:
        retry_strategy(self.rules, self.attempts)
        if not self.command:
            raise ValueError("a job needs a command")
        if self.array_size is not None and not 2 <= self.array_size <= 10_000:
            raise ValueError(f"Batch takes arrays of 2 to 10,000 children, not {self.array_size}")
        if self.timeout_s is not None and self.timeout_s < 60:
            raise ValueError(f"Batch takes timeouts of 60 seconds or more, not {self.timeout_s}")
        if protected := [name for name in self.environment if name.startswith("AWS_BATCH_")]:
            raise ValueError(f"Batch keeps names beginning with AWS_BATCH_ to itself: {', '.join(protected)}")
        if len(self.depends_on) > 20:
            raise ValueError(f"Batch takes 20 dependencies at most, not {len(self.depends_on)}")
        for dependency in self.depends_on:
            other = dependency.job.spec.array_size if dependency.job else self.array_size
            if dependency.type is not None and (self.array_size is None or other != self.array_size):
                raise ValueError(
                    f"{dependency.type} goes between arrays of one size, not {self.array_size} and {other}"
                )


@dataclass(eq=False)
class Attempt:
    number: int
    host: str
    stdout: Path
    stderr: Path
    started_at: int | None = None  # ms since 1970, as in Batch; None: the container never ran
    stopped_at: int | None = None
    exit_code: int | None = None
    reason: str | None = None
    status_reason: str | None = None

    @property
    def host_lost(self) -> bool:
        return (self.status_reason or "").startswith("Host EC2")

    def describe(self) -> dict[str, Any]:
        container = _present(exitCode=self.exit_code, reason=self.reason)
        times = _present(startedAt=self.started_at, stoppedAt=self.stopped_at)
        return {"container": container, **times, **_present(statusReason=self.status_reason)}


@dataclass(eq=False)
class Child:
    """What runs: one child of an array, or the only one of a job that is no array."""

    job: Job
    index: int
    status: Status = "SUBMITTED"
    status_reason: str | None = None
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.job.id if self.job.spec.array_size is None else f"{self.job.id}:{self.index}"

    def describe(self) -> dict[str, Any]:
        attempts = [attempt.describe() for attempt in self.attempts if attempt.stopped_at is not None]
        last = self.attempts[-1].describe() if self.attempts else {"container": {}}
        array = {} if self.job.spec.array_size is None else {"arrayProperties": {"index": self.index}}
        return {**self.job.definition(), "jobId": self.id, "status": self.status, "attempts": attempts,
                "container": {"command": list(self.job.spec.command), **last["container"]}, **array,
                **_present(statusReason=self.status_reason), "startedAt": last.get("startedAt") or 0,
                **_present(stoppedAt=last.get("stoppedAt") if self.status in ENDED else None)}  # fmt: skip


@dataclass(eq=False)
class Job:
    id: str
    name: str
    spec: JobSpec
    created_at: int
    children: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.children = [Child(self, index) for index in range(self.spec.array_size or 1)]

    @property
    def status(self) -> Status:
        """An array's parent is never RUNNABLE, STARTING or RUNNING, and has failed when all children ended and one
        failed."""
        statuses = {child.status for child in self.children}
        if self.spec.array_size is None or (len(statuses) == 1 and statuses <= {"SUBMITTED", *ENDED}):
            return self.children[0].status
        return "FAILED" if statuses <= {*ENDED} else "PENDING"

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def attempts(self) -> list[Attempt]:
        """Of all children."""
        return [attempt for child in self.children for attempt in child.attempts]

    def definition(self) -> dict[str, Any]:
        spec = self.spec
        depends_on = [_present(jobId=d.job.id if d.job else None, type=d.type) for d in spec.depends_on]
        return {"jobName": self.name, "jobId": self.id, "jobQueue": "simulated", "jobDefinition": self.name,
                "createdAt": self.created_at, "dependsOn": depends_on,
                "retryStrategy": retry_strategy(spec.rules, spec.attempts),
                **({"timeout": {"attemptDurationSeconds": int(spec.timeout_s)}} if spec.timeout_s else {})}  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """The parent of an array, or the job itself."""
        if self.spec.array_size is None:
            return self.children[0].describe()
        summary = Counter(child.status for child in self.children)
        array = {"size": self.spec.array_size, "statusSummary": dict(summary)}
        return {**self.definition(), "status": self.status, "startedAt": 0, "attempts": [], "arrayProperties": array}


@dataclass(frozen=True)
class Dependency:
    """``type`` None: on all of the job. N_TO_N: each child on the child of its index. SEQUENTIAL, without a job:
    each child on the one before it."""

    job: Job | None = None
    type: Literal["N_TO_N", "SEQUENTIAL"] | None = None

    def statuses(self, child: Child) -> set[Status]:
        """Of what ``child`` waits for."""
        if self.job is None:
            return {before.status for before in child.job.children[max(child.index - 1, 0) : child.index]}
        return {self.job.children[child.index].status if self.type == "N_TO_N" else self.job.status}


SEQUENTIAL: Final = Dependency(type="SEQUENTIAL")


def n_to_n(job: Job) -> Dependency:
    return Dependency(job, "N_TO_N")


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
