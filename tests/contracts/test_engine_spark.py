"""The engine contract, held by ``spark`` with real Spark processes: one JVM for all runs in this process, and a JVM of
its own for each driver that is signalled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.engines.engine import EngineSettings
from tests.contracts.engine_contract import *  # noqa: F403
from tests.fixtures.spark import running_context


@pytest.fixture
def name() -> str:
    return "spark"


@pytest.fixture(scope="module", autouse=True)
def said_by_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with running_context(tmp_path_factory.mktemp("spark"), EngineSettings(name="spark", workers=2)) as files:
        yield files


@pytest.fixture
def printed(said_by_spark: tuple[Path, Path]) -> Callable[[], tuple[str, str]]:
    out, err = said_by_spark
    return lambda: (out.read_text(), err.read_text())
