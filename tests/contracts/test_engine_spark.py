"""The engine contract, held by ``spark`` with real Spark processes: one JVM for all runs in this process, and a JVM of
its own for each driver that is signalled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.engines.engine import EngineSettings
from jobs.engines.spark_context import open_context
from tests.contracts.engine_contract import *  # noqa: F403


@pytest.fixture
def name() -> str:
    return "spark"


@pytest.fixture(scope="module", autouse=True)
def said_by_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Opens the context that the tests here share; the JVM keeps the standard output and error of that moment."""
    folder = tmp_path_factory.mktemp("spark")
    files = folder / "out", folder / "err"
    kept = [os.dup(number) for number in (1, 2)]
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    try:
        context = open_context(EngineSettings(name="spark", workers=2))
    finally:
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
    yield files
    context.stop()


@pytest.fixture
def printed(said_by_spark: tuple[Path, Path]) -> Callable[[], tuple[str, str]]:
    out, err = said_by_spark
    return lambda: (out.read_text(), err.read_text())
