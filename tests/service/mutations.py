"""How many small wrong versions of the service's security the tests notice: ``python -m tests.service.mutations``.

mutmut passes over decorated functions and class bodies, which is where validators and settings are; so the mutants are
ours (mutants.py). Each runs in a process forked from one that has imported all but Backhaul itself, with the tests of
its own module, until one fails. Survivors are listed, and the exit code is 1 where more survive than ``--least`` allows.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from tests.service.mutants import Mutant, mutants_of

PROJECT = Path(__file__).parent.parent.parent
TESTS = {
    "tenancy": ("test_tenancy",), "auth": ("test_auth", "test_tokens"), "api_keys": ("test_api_keys",), "key_file": ("test_api_keys",),
    "tokens": ("test_tokens", "test_auth"), "jwks": ("test_jwks", "test_tokens"), "key_set": ("test_key_set",),
}  # fmt: skip
"""By module of jobs/service: the tests that must notice."""

_ALREADY = ("pytest", "hypothesis", "jwt", "cryptography", "pydantic", "urllib3", "numpy", "pyarrow", "typer", "omegaconf", "orjson",
            "obstore", "rich.progress", "tenacity", "psutil", "yaml", "fastapi", "pipelines.search", "pipelines.targets.target")  # fmt: skip
_LONGEST_S = 120.0  # a mutant that hangs is noticed as well


@dataclass(frozen=True, slots=True)
class Outcome:
    module: str
    mutant: Mutant
    killed: bool
    hung: bool


class _Planted(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Imports one module from a changed tree."""

    def __init__(self, name: str, tree: ast.Module, path: Path) -> None:
        self._name, self._tree, self._path = name, tree, path

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.util.spec_from_loader(fullname, self, origin=str(self._path)) if fullname == self._name else None
        )

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def outcomes(modules: Sequence[str], workers: int) -> Iterator[Outcome]:
    """Of every mutant, as they end. Raises AssertionError where the tests fail without one."""
    for name in _ALREADY:
        importlib.import_module(name)
    assert not [name for name in sys.modules if name.startswith("jobs.")]
    gc.freeze()  # what is here already costs the forked ones no collection
    forked = multiprocessing.get_context("fork")
    for module in modules:
        sound = forked.Process(target=_try, args=(module, None))
        sound.start()
        sound.join()
        assert sound.exitcode == 0, f"{', '.join(TESTS[module])} fail for jobs/service/{module}.py as it is"
    waiting = [(module, number) for module in modules for number in range(len(_read(module)[1]))]
    running: dict[int, tuple[BaseProcess, str, int, float]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            module, number = waiting.pop(0)
            process = forked.Process(target=_try, args=(module, number))
            process.start()
            running[process.sentinel] = (process, module, number, time.monotonic() + _LONGEST_S)
        ended = wait(list(running), timeout=1.0)
        for sentinel, (process, module, number, until) in list(running.items()):
            if sentinel not in ended and time.monotonic() < until:
                continue
            process.kill()
            process.join()
            del running[sentinel]
            yield Outcome(module, _read(module)[1][number], process.exitcode != 0, sentinel not in ended)


def _read(module: str) -> tuple[ast.Module, list[Mutant]]:
    tree = ast.parse((PROJECT / "jobs" / "service" / f"{module}.py").read_text())
    return tree, mutants_of(tree)


def _try(module: str, number: int | None) -> None:
    """In a process of its own: plant a mutant (None: none), run the tests, end with 0 where they noticed nothing."""
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half the time of a mutant
    tree, mutants = _read(module)
    if number is not None:
        mutants[number].plant()
    sys.meta_path.insert(0, _Planted(f"jobs.service.{module}", tree, PROJECT / "jobs" / "service" / f"{module}.py"))
    tests = [str(PROJECT / "tests" / "service" / f"{name}.py") for name in TESTS[module]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = pytest.main(
            [
                "-x",
                "-q",
                "--noconftest",
                "-p",
                "no:cacheprovider",
                "-p",
                "pytest_timeout",
                "-p",
                "no:unraisableexception",
                *tests,
            ]
        )
    os._exit(int(found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[*TESTS], help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--least", type=float, default=0.95, help="share that must be noticed")
    given = parser.parse_args()
    found: list[Outcome] = []
    for outcome in outcomes(given.modules, given.workers):
        found.append(outcome)
        if not outcome.killed:
            print(
                f"survived: jobs/service/{outcome.module}.py:{outcome.mutant.line}: {outcome.mutant.what}", flush=True
            )
    for module in given.modules:
        of = [outcome.killed for outcome in found if outcome.module == module]
        print(f"{module:<10} {sum(of):>4} of {len(of):>4} noticed")
    killed = sum(outcome.killed for outcome in found)
    hung = sum(outcome.hung for outcome in found)
    print(f"{'all':<10} {killed:>4} of {len(found):>4} noticed ({killed / len(found):.1%}), {hung} of them by hanging")
    return 0 if killed >= given.least * len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
