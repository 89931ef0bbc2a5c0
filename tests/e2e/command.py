"""The real command line in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "jobs.main"]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value

    @property
    def digests(self) -> tuple[str, str]:
        """Content and bytes digest of a run that must have succeeded."""
        assert self.code == 0, self.err
        return self.json["content_digest"], self.json["bytes_digest"]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1", **(extra or {})}


def backhaul(*words: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 280, cwd: Path | None = None,
             **popen: Any) -> Outcome:  # fmt: skip
    """Run ``backhaul WORDS`` to its end."""
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, env=environment(env),
                          timeout=timeout_s, cwd=cwd, stdin=subprocess.DEVNULL, check=False, **popen)  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def worker_processes(driver_pid: int) -> list[psutil.Process]:
    """The local engine's workers of a driver, oldest first; none when the driver is gone."""
    try:
        children = psutil.Process(driver_pid).children()
        return [child for child in children if "jobs.engines.worker" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def backhaul_here(*words: str | Path) -> Outcome:
    """The same command in this process: faster, for what needs no process of its own (engine.workers: 0)."""
    from jobs.main import run_command

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(word) for word in words])
    return Outcome(code, out.getvalue(), err.getvalue())
