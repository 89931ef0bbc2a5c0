"""The Engine seam: runs a Work over partitions. Knows processes and attempts; knows no stage."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.leases import LeaseSettings
from pipelines.partition import Partition

S = TypeVar("S")


class RaySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(
        None, description="a running cluster, such as auto or head:6379; null: that of RAY_ADDRESS, or a local one"
    )
    cpus_per_worker: float = Field(1.0, ge=0, description="CPUs that each worker reserves")
    gpus_per_worker: float = Field(0.0, ge=0, description="GPUs that each worker reserves; fractions share one")
    placement_timeout_s: float = Field(
        600.0, gt=0, description="seconds without room for any worker after which the run fails; nodes may take minutes"
    )

    def text(self) -> str:
        return f"each asks for CPU {self.cpus_per_worker:g}, GPU {self.gpus_per_worker:g}"


class SparkSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    master: str | None = Field(
        None,
        description="such as spark://host:7077, whose executors then say how many workers there are; null: "
        "spark-submit's, or this machine",
    )
    gpus_per_task: float = Field(0.0, ge=0, description="GPUs of an executor that each task takes")
    port: int = Field(0, ge=0, le=65535, description="the driver's port that workers report at; 0: any free one")
    conf: dict[str, str] = Field({}, description="further Spark properties")


class BatchArraySettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    idle_s: float = Field(
        120.0,
        gt=0,
        description="seconds that a child with nothing to do waits for others' leases to end, then it leaves",
    )
    capacity: Literal["auto", "spot", "on_demand"] = Field(
        "auto", description="spot takes often interrupted partitions last, on_demand first; auto asks EC2 which it is"
    )
    index: int | None = Field(
        None, ge=0, description="which child this is, outside AWS Batch; --index on the command line"
    )
    of: int | None = Field(None, ge=1, description="how many children there are, outside AWS Batch; --of likewise")

    @model_validator(mode="after")
    def _index_is_of_something(self) -> BatchArraySettings:
        if (self.index is None) != (self.of is None):
            raise ValueError("index and of go together, such as --index 0 --of 4")
        if self.index is not None and self.of is not None and self.index >= self.of:
            raise ValueError(f"index counts from 0, so that of {self.of} children the last is {self.of - 1}")
        return self


class EngineSettings(BaseModel):
    """``workers`` 0 runs in this process, one partition after the other (what ``memory://`` needs)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["local", "ray", "spark", "batch_array"] = Field(
        "local", description="where partitions run: local (processes of this machine), ray, spark or batch_array"
    )
    workers: int = Field(1, ge=0, description="worker processes; 0: in this process, which memory:// needs")
    max_attempts: int = Field(3, ge=1, description="workers that may die on one partition before it is given up")
    grace_s: float = Field(
        20.0,
        gt=0,
        description="seconds from a stop signal until the part in hand is abandoned; AWS Batch kills after 30",
    )
    stop_on_rebalance: bool = Field(True, description="whether EC2's rebalance recommendation stops the workers there")
    on_demand_after: int = Field(
        3, ge=1, description="interruptions after which a partition is marked for on-demand capacity"
    )
    lease: LeaseSettings = LeaseSettings()
    ray: RaySettings = RaySettings()
    spark: SparkSettings = SparkSettings()
    batch_array: BatchArraySettings = BatchArraySettings()

    @model_validator(mode="after")
    def _inline_is_local(self) -> EngineSettings:
        if self.workers == 0 and self.name in ("ray", "spark"):
            raise ValueError(
                f"workers: 0 runs in this process, which engine {self.name} does not; set workers, or local"
            )
        return self

    @model_validator(mode="after")
    def _array_is_whole(self) -> EngineSettings:
        array, silent_s = self.batch_array, self.lease.ttl_s + self.lease.max_skew_s
        if self.name == "batch_array" and array.idle_s <= silent_s:
            raise ValueError(
                f"batch_array.idle_s {array.idle_s:g} must be more than lease.ttl_s and lease.max_skew_s together "
                f"({silent_s:g}), or a child leaves before a dead one's partitions can be taken over"
            )
        if self.name != "batch_array" and array.index is not None:
            raise ValueError(f"--index and --of are for engine batch_array, not {self.name}; add --engine batch_array")
        return self


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of progress from inside a partition: rows and tokens done since the last beat; ``resumed`` when an
    earlier attempt had done them."""

    rows: int
    tokens: int
    resumed: bool = False

    @classmethod
    def of(cls, report: Any) -> Beat:
        """What a Work reported; pipelines does not know this class."""
        return cls(report.rows, report.tokens, getattr(report, "resumed", False))


class Work(Protocol[S]):  # type: ignore[misc]  # S stands in the constructor alone
    """An expensive constructor (one frozen, picklable settings value) and a cheap call.

    Between parts a Work calls ``report`` and asks ``stopping``; when told to stop it raises Interrupted
    after the part in hand. The engine sets both after construction.
    """

    report: Callable[[Any], None]  # Any: a Beat; pipelines does not know this class
    stopping: Callable[[], bool]

    def __init__(self, settings: S) -> None: ...

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """The receipt, as JSON. Raises for a failed partition; LeaseHeld for one to be handed out again later."""


@dataclass(frozen=True, slots=True)
class Done:
    partition: Partition
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """One partition that failed for good: an error of the Work, or ``attempts`` workers that died on it."""

    partition: Partition
    cause: str  # the error's class name, or "worker died"
    message: str
    exit_code: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Left:
    """One partition in the hands of another invocation, left to it because nothing else was to be done here."""

    partition: Partition
    message: str


Outcome = Done | Failed | Left


@dataclass(frozen=True, slots=True)
class WorkSpec(Generic[S]):
    """All that crosses the wire."""

    work: type[Work[S]]
    settings: S


class Engine(Protocol):
    def run(self, spec: WorkSpec[S], partitions: Sequence[Partition], *, workers: int | None = None,
            on_beat: Callable[[Beat], None] = lambda beat: None) -> Generator[Outcome]:  # fmt: skip
        """One outcome per partition, in the order they end. ``workers`` caps the settings' number.

        One failing partition does not stop the others. A worker that dies is replaced and its partition
        retried, at most ``max_attempts`` times. A partition that another invocation holds is waited for. On SIGINT or SIGTERM the workers are told to stop after the part
        in hand, and the iterator raises Interrupted. No worker outlives the driver.
        """
