"""The Engine seam: runs a Work over partitions. Knows processes and attempts; knows no stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pipelines.partition import Partition

S = TypeVar("S")


class EngineSettings(BaseModel):
    """``workers`` 0 runs in this process, one partition after the other (what ``memory://`` needs)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["local"] = Field("local", description="where partitions run: local (processes of this machine)")
    workers: int = Field(1, ge=0, description="worker processes; 0: in this process, which memory:// needs")
    max_attempts: int = Field(3, ge=1, description="workers that may die on one partition before it is given up")
    grace_s: float = Field(
        30.0, gt=0, description="seconds between a stop signal and killing the workers"
    )  # from a stop signal to SIGKILL of the workers


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of progress from inside a partition: rows and tokens done since the last beat."""

    rows: int
    tokens: int


class Work(Protocol[S]):  # type: ignore[misc]  # S stands in the constructor alone
    """An expensive constructor (one frozen, picklable settings value) and a cheap call.

    Between parts a Work calls ``report`` and asks ``stopping``; when told to stop it raises Interrupted
    after the part in hand. The engine sets both after construction.
    """

    report: Callable[[Any], None]  # Any: a Beat; pipelines does not know this class
    stopping: Callable[[], bool]

    def __init__(self, settings: S) -> None: ...

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """The receipt, as JSON. Raises for a failed partition."""


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
class WorkSpec(Generic[S]):
    """All that crosses the wire."""

    work: type[Work[S]]
    settings: S


class Engine(Protocol):
    def run(self, spec: WorkSpec[S], partitions: Sequence[Partition], *, workers: int | None = None,
            on_beat: Callable[[Beat], None] = lambda beat: None) -> Iterator[Done | Failed]:  # fmt: skip
        """One outcome per partition, in the order they end. ``workers`` caps the settings' number.

        One failing partition does not stop the others. A worker that dies is replaced and its partition
        retried, at most ``max_attempts`` times. On SIGINT or SIGTERM the workers are told to stop after the part
        in hand, and the iterator raises Interrupted. No worker outlives the driver.
        """
