"""A corpus whose generations have a shard on each of two nodes, and what happens to the nodes at a request of a command.

Knows commands from outside and the nodes' own HTTP; checks nothing but that a command ends well and a generation is exact.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.session import Session
from jobs.settings import load_settings
from tests.e2e.command import Outcome, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.exact import differences
from tests.e2e.moments import Asked
from tests.fixtures.faulty_opensearch import Act, Request
from tests.fixtures.opensearch import Node, wait_for_health
from tests.targets.opensearch_case import send

OBJECTS, DOCUMENTS = 12, 100
SHARDS = 2  # one on each node


@dataclass(frozen=True)
class Corpus:
    """An embedded corpus whose generations have a shard on each node. ``sets`` of a command make a generation of its
    own, or say how patient the command is."""

    name: str
    folder: Path
    conf: Path
    node: str

    @classmethod
    def embedded(cls, folder: Path, node: str) -> Corpus:
        name = f"nodes{time.time_ns()}"
        source = write_corpus(folder / "source", objects=OBJECTS, documents=DOCUMENTS)
        conf = write_conf(folder / "run.yaml", corpus=name, root=f"file://{folder}/root", source=f"file://{source}",
                          partition={"target_tokens": 20_000}, engine={"workers": 0},
                          index={"target": "opensearch", "url": node, "replicas": 0, "shards": SHARDS,
                                 "max_bulk_bytes": 1 << 16})  # fmt: skip
        made = cls(name, folder, conf, node)
        made.must("embed")
        return made

    def command(self, verb: str, *sets: str) -> Outcome:
        words = [word for text in sets for word in ("--set", text)]
        return backhaul_here(verb, self.conf, *words, *(["--yes"] if verb in ("release", "rollback") else []))

    def must(self, verb: str, *sets: str) -> str:
        """What it said."""
        outcome = self.command(verb, *sets)
        assert outcome.code == 0, outcome.err
        return outcome.err

    def session(self, *sets: str) -> Session:
        return Session(load_settings(self.conf, list(sets)), quiet=True)

    def generation(self, *sets: str) -> str:
        session = self.session(*sets)
        return session.generation_name(session.plan().run_id)

    def live(self) -> str | None:
        return self.session().target.live(self.name)

    def must_be_exact(self, *sets: str) -> None:
        session, name = self.session(*sets), self.generation(*sets)
        assert differences(session, session.plan().run_id, name, self.node) == []
        copies = self.copies(name)
        assert len(copies) == SHARDS * (1 + session.settings.index.replicas)
        docs = {(each["shard"], each["docs"]) for each in copies}
        assert len(docs) == SHARDS  # every copy of a shard holds as much
        assert sum(int(count) for _, count in docs) == OBJECTS * DOCUMENTS

    def copies(self, name: str) -> list[dict[str, str]]:
        """Of its shards, those that a node serves."""
        found: list[dict[str, str]] = send(self.node, "GET", f"/_cat/shards/{name}?format=json")
        return [each for each in found if each["state"] == "STARTED"]

    def embeddings(self) -> dict[Path, int]:
        """All that embedding ever wrote or noted down, with the time of each."""
        found = [path for stage in ("attempts/embed", "parts", "receipts/embed", "leases/embed")
                 for path in self.folder.glob(f"root/runs/*/{stage}/**/*") if path.is_file()]  # fmt: skip
        assert len(found) > OBJECTS
        return {path: path.stat().st_mtime_ns for path in found}


@dataclass(frozen=True)
class Nodes:
    """Only ``other`` may be killed: it holds data and never becomes the manager."""

    manager: Node
    other: Node

    def brought_up(self) -> Nodes:
        if not self.other.running:
            self.other.start()
        self.wait_until_green()
        return self

    def wait_until_green(self) -> None:
        wait_for_health(self.manager, wait_for_nodes=2, wait_for_status="green")


@dataclass
class At:
    """A rule: ``strike`` is called once, when the ``nth`` request of a kind comes and before the node sees it."""

    asked: Asked
    nth: int
    strike: Callable[[], None]
    seen: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Act | None:
        if self.asked.matches(request):
            with self.turn:
                self.seen += 1
                if self.seen == self.nth:
                    self.strike()
        return None


class Witness:
    """A rule: how an index fares on ``node`` at the last request of each kind, asked from beside: its status, and how
    many copies of its shards are served."""

    def __init__(self, node: str, index: str, *moments: Asked) -> None:
        self._node, self._index, self._moments = node, index, moments
        self.saw: dict[Asked, tuple[str, int]] = {}

    def __call__(self, request: Request) -> Act | None:
        for asked in self._moments:
            if asked.matches(request):
                health = send(self._node, "GET", f"/_cluster/health/{self._index}")
                self.saw[asked] = health["status"], health["active_shards"]
        return None


def beside(do: Callable[[], Any], *, after_s: float) -> threading.Thread:
    thread = threading.Thread(target=lambda: time.sleep(after_s) or do())  # type: ignore[func-returns-value]
    thread.start()
    return thread
