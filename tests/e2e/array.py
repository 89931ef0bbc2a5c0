"""An array over a small corpus: children as threads of this process, or as processes that can be killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import orjson

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.embed import embed_corpus
from jobs.verbs.load import load_corpus
from pipelines.attempts import count_attempts
from pipelines.errors import BackhaulError
from tests.e2e.command import Outcome, backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus

DEADLINE_S = 60.0
ENGINE: dict[str, Any] = {"name": "batch_array", "workers": 0, "lease": {"ttl_s": 1, "max_skew_s": 0.2},
                          "batch_array": {"idle_s": 1.5}}  # fmt: skip


class Array:
    """Eight partitions of four parts each."""

    def __init__(self, folder: Path, *, index: dict[str, Any] | None = None, **engine: Any) -> None:
        self.folder = folder
        self._sections = {"corpus": f"c{uuid4().hex[:10]}", "index": index} if index else {}
        if not (folder / "source").exists():
            write_corpus(folder / "source", objects=8, documents=60)
        self.root = folder / "root"
        self.conf = self._conf("run", self.root, {**ENGINE, **engine})

    def _conf(self, name: str, root: Path, engine: dict[str, Any]) -> Path:
        return write_conf(self.folder / f"{name}.yaml", root=f"file://{root}", source=f"file://{self.folder}/source",
                          partition={"target_tokens": 1000}, embed={"rows_per_part": 16}, engine=engine,
                          **self._sections)  # fmt: skip

    def session(self, index: int, of: int) -> Session:
        words = [f"engine.batch_array.index={index}", f"engine.batch_array.of={of}"]
        return Session(load_settings(self.conf, words), quiet=True)

    def embed(self, index: int, of: int) -> dict[str, Any] | BackhaulError:
        try:
            return embed_corpus(self.session(index, of))
        except BackhaulError as error:
            return error

    def load(self, index: int, of: int) -> dict[str, Any] | BackhaulError:
        try:
            return load_corpus(self.session(index, of), None)
        except BackhaulError as error:
            return error

    def together(self, of: int, verb: Literal["embed", "load"] = "embed") -> list[Any]:
        """All children at once, and what became of each."""
        results: list[Any] = [None] * of
        barrier = threading.Barrier(of)

        def child(index: int) -> None:
            barrier.wait(DEADLINE_S)
            results[index] = getattr(self, verb)(index, of)

        threads = [threading.Thread(target=child, args=(index,)) for index in range(of)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in threads), "a child does not end"
        return results

    def process(self, index: int, of: int, *, part_s: float) -> subprocess.Popen[bytes]:
        """A child whose parts take ``part_s``, told by Batch's variables who it is."""
        batch = {"AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": str(of)}
        return subprocess.Popen([sys.executable, "-m", "tests.e2e.slow_embed", str(self.conf), str(part_s)],
                                env=environment(batch), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip

    def kill_at(self, parts: int, *children: subprocess.Popen[bytes]) -> None:
        """SIGKILL to all of them once so many parts were begun, and their leases are as another machine's: nobody can
        look up there whether they live."""
        deadline = time.monotonic() + DEADLINE_S
        while len([*self.root.glob("runs/*/attempts/embed/*/*/*")]) < parts:
            assert time.monotonic() < deadline, "the children do not get on"
            assert all(child.poll() is None for child in children), "a child ended"
            time.sleep(0.02)
        for child in children:
            child.kill()
            child.wait()
        for lease in self.root.glob("runs/*/leases/embed/*/*.json"):
            epoch = orjson.loads(lease.read_bytes())
            epoch["owner"]["host"] = "elsewhere"
            lease.write_bytes(orjson.dumps(epoch))

    def quiet(self) -> tuple[str, str]:
        """Both digests of the same source by the local engine, into another root."""
        conf = self._conf("quiet", self.folder / "quiet", {"name": "local", "workers": 0})
        return backhaul_here("embed", conf, "--json").digests

    def digests(self) -> tuple[str, str]:
        """Of the manifest that is there."""
        value = orjson.loads(self.manifest().read_bytes())
        return value["content_digest"], value["bytes_digest"]

    def manifest(self) -> Path:
        (found,) = self.root.glob("runs/*/manifest.json")
        return found

    def command(self, *words: str | Path) -> Outcome:
        return backhaul_here(words[0], self.conf, *words[1:])

    def counts(self) -> tuple[int, int]:
        """(parts begun, distinct parts)."""
        (run,) = self.root.glob("runs/*")
        return count_attempts(self.session(0, 1).store, run.name)
