"""Plants a bug and looks whether the simulation catches it: the mutated source is served in a forked child process.

Knows modules and texts; knows not what a mutation means.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from tests.simulation.planted import Bug
from tests.simulation.simulation import run_schedule

_OURS = ("pipelines", "jobs", "tests.simulation")
_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class Catch:
    """``name`` is the broken invariant's; "" when every schedule ran as if nothing was wrong."""

    name: str
    seen: str
    seed: int
    schedules: int


def mutated(bug: Bug) -> str:
    """The module's source with the bug. Raises ValueError for an old text that does not stand there exactly once."""
    path = _path(bug.module)
    with open(path, encoding="utf-8") as file:
        source = file.read()
    for old, new in bug.edits:
        if source.count(old) != 1:
            raise ValueError(f"{bug.what!r}: {old!r} stands {source.count(old)} times in {path}")
        source = source.replace(old, new)
    compile(source, path, "exec")
    return source


def catch(bug: Bug, seeds: Iterable[int]) -> Catch:
    """Run schedules with the bug in it, until one is caught.

    Raises:
        RuntimeError: the mutated code crashed, which proves nothing.
    """
    order = {"module": bug.module, "source": mutated(bug), "seeds": list(seeds)}
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    value = json.loads(server.stdout.readline() or "{}")
    if not value:
        raise RuntimeError(f"{bug.what!r}: its process ended without a word")
    if "crash" in value:
        raise RuntimeError(f"{bug.what!r}: seed {value['seed']} crashed: {value['crash']}")
    return Catch(**value)


@cache
def _server() -> subprocess.Popen[str]:
    """Forks for each order. One of its own, since a fork of this process may hang: other tests have left threads in
    it, and what they hold is held for ever in a child. It ends with its standard input, and so with this process."""
    program = [sys.executable, "-m", __name__]
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    return subprocess.Popen(program, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve() -> None:
    """One line of answer for each line of order; an empty answer from a child that ended otherwise."""
    run_schedule(0)  # what libraries load when it is first needed is loaded here, once for all children
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                signal.alarm(_LIMIT_S)
                print(json.dumps(_run(order["module"], order["source"], order["seeds"])), flush=True)
                os._exit(0)
            os._exit(1)
        if os.waitpid(child, 0)[1]:
            print("{}", flush=True)


def _run(module: str, source: str, seeds: Sequence[int]) -> dict[str, Any]:
    for name in [name for name in sys.modules if name.startswith(_OURS)]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Finder(module, source))
    simulation = importlib.import_module("tests.simulation.simulation")
    for count, seed in enumerate(seeds, 1):
        try:
            violation = simulation.run_schedule(seed).violation
        except BaseException as error:
            return {"crash": repr(error), "seed": seed}
        if violation is not None:
            return {"name": violation.name, "seen": str(violation)[:300], "seed": seed, "schedules": count}
    return {"name": "", "seen": "", "seed": -1, "schedules": len(seeds)}


class _Finder:
    """Serves one module from memory."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._module:
            return None
        where = _path(name)
        return importlib.util.spec_from_file_location(name, where, loader=_Loader(name, where, self._source))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


def _path(module: str) -> str:
    return os.path.join(os.path.dirname(__file__), "..", "..", *module.split(".")) + ".py"


if __name__ == "__main__":
    serve()
