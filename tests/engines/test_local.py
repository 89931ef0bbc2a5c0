"""What is particular to the local engine: how its processes start, and what crosses their pipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.engines.engine import Done, EngineSettings, Failed, WorkSpec
from jobs.engines.local import LocalEngine
from pipelines.partition import Partition
from tests.engines.works import evidence, partitions

ROOT = Path(__file__).parents[2]
DRIVER = """
print("the main module runs")
import sys
from jobs.engines.engine import EngineSettings, WorkSpec
from jobs.engines.local import LocalEngine
from tests.engines.works import EvidenceWork, Orders, partitions
engine = LocalEngine(EngineSettings(workers=2))
print(len(list(engine.run(WorkSpec(EvidenceWork, Orders(sys.argv[1])), partitions(4)))))
"""


def test_a_driver_without_a_guarded_main_is_not_run_again_by_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{DRIVER}")
    assert output([str(script), str(tmp_path)], cwd=tmp_path) == "the main module runs\n4\n"


def test_a_driver_on_the_command_line_has_workers_as_well(tmp_path: Path) -> None:
    assert output(["-c", DRIVER, str(tmp_path)], cwd=ROOT) == "the main module runs\n4\n"
    assert evidence(tmp_path, "done") == [0, 1, 2, 3]


def output(arguments: list[str], cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    ).stdout


@dataclass(frozen=True)
class Size:
    bytes: int


class BigWork:
    """Its receipt has ``settings.bytes`` bytes; one of none at all cannot be pickled."""

    report: Callable[[Any], None]
    stopping: Callable[[], bool]

    def __init__(self, settings: Size) -> None:
        self._settings = settings

    def __call__(self, partition: Partition) -> dict[str, Any]:
        return {"big": "x" * self._settings.bytes} if self._settings.bytes else {"bad": lambda: None}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_receipt_larger_than_a_pipe_arrives_whole(workers: int) -> None:
    engine = LocalEngine(EngineSettings(workers=workers))
    outcomes = list(engine.run(WorkSpec(BigWork, Size(5_000_000)), partitions(4)))
    assert [len(outcome.receipt["big"]) for outcome in outcomes if isinstance(outcome, Done)] == [5_000_000] * 4


def test_a_receipt_that_cannot_be_sent_is_a_failure_of_its_partition() -> None:
    outcomes = list(LocalEngine(EngineSettings(workers=1)).run(WorkSpec(BigWork, Size(0)), partitions(2)))
    assert all(isinstance(outcome, Failed) and "pickle" in outcome.message for outcome in outcomes)
    assert len(outcomes) == 2


class Elsewhere:
    """A work whose settings cannot be unpickled in a worker."""

    def __init__(self, settings: Any) -> None: ...


@dataclass(frozen=True)
class Refusing:
    name: str

    def __reduce__(self) -> Any:
        return (_refuse, (self.name,))


def _refuse(name: str) -> Any:
    raise ModuleNotFoundError(f"No module named {name!r}")


def test_settings_that_cannot_be_read_in_a_worker_fail_every_partition() -> None:
    engine = LocalEngine(EngineSettings(workers=2))
    outcomes = list(engine.run(WorkSpec(Elsewhere, Refusing("notebook")), partitions(3)))  # type: ignore[type-var]
    assert [outcome.cause for outcome in outcomes if isinstance(outcome, Failed)] == ["ModuleNotFoundError"] * 3
