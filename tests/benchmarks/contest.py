"""Contenders in processes of their own, asked one at a time, so that one works while the others wait. Knows no models."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tests.benchmarks.contenders import Contender
from tests.benchmarks.derived import derived_file
from tests.benchmarks.environments import environment_folder
from tests.e2e.command import PROJECT, environment


class Running:
    """A contender's process."""

    def __init__(self, contender: Contender, device: str, threads: int, data: Path) -> None:
        self.contender = contender
        self.shares: dict[str, int] = {}  # of a corpus, into how many parts it is cut for the contender's turns
        self.prepared: dict[str, Any] = {}
        options = {**contender.options, "batches": contender.batches}
        if "file" in options:
            options["file"] = str(derived_file(options["file"], data))
        self._temporary = tempfile.TemporaryDirectory(prefix="running")
        self._folder = Path(self._temporary.name)
        self._errors = (self._folder / "errors").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.contender", contender.program, orjson.dumps(options).decode(), device,
             str(threads)],
            env=_environment(contender, device, threads), cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._errors)  # fmt: skip

    def ask(self, **question: Any) -> dict[str, Any]:
        """Raises RuntimeError with what the process said last where it ends instead of answering."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(question, default=str) + b"\n")
        self._process.stdin.flush()
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = orjson.loads(line)
            return answer
        said = (self._folder / "errors").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.contender.name} ended: {said}")

    def embed(self, texts: Path, chosen: Sequence[int]) -> tuple[float, Any]:
        """Seconds, and the vectors of the chosen texts."""
        save = self._folder / "vectors.npy"
        seconds = self.ask(texts=texts, chosen=list(chosen), save=save)["seconds"]
        return seconds, np.load(save, allow_pickle=True)

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._errors.close()
        self._temporary.cleanup()


def _environment(contender: Contender, device: str, threads: int) -> Mapping[str, str]:
    extra = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    if device == "cpu":
        extra["CUDA_VISIBLE_DEVICES"] = ""
    if contender.environment:
        extra["PYTHONPATH"] = f"{environment_folder(contender.environment)}:{PROJECT}"
    return environment(extra)
