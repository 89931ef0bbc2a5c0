"""A child of an array on a machine of its own, with an embedder that takes its time: ``backhaul embed CONF`` otherwise.

``python -m tests.e2e.spot_child CONF SECONDS_PER_PART``. Nobody can look up whether it lives: its leases name another
host than everybody else's. The seconds from its start to its first part go to standard error.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import psutil

from jobs.engines.engine import WorkSpec
from jobs.settings import load_settings
from jobs.verbs.embed import embed_corpus
from pipelines.embed.embedder import Role, Vectors
from pipelines.errors import BackhaulError
from pipelines.leased import LeasedTask, LeasedWork
from pipelines.leases import Leases
from pipelines.owner import this_owner
from pipelines.store import open_store
from tests.e2e.slow_embed import SlowEmbedWork, SlowSession, SlowTask

STARTED = "first part after"


class ApartWork(LeasedWork):
    def __init__(self, task: LeasedTask) -> None:
        owner = replace(this_owner(task.invocation), host=task.invocation)
        super().__init__(task, leases=Leases(open_store(task.root, task.storage), task.leases, owner, task.lease))


class TimedWork(SlowEmbedWork):
    def __init__(self, slow: SlowTask) -> None:
        super().__init__(slow)
        self._embedder = _Timed(self._embedder)


class _Timed:
    def __init__(self, embedder: Any) -> None:
        self.space, self.maker, self._embedder, self._began = embedder.space, embedder.maker, embedder, False

    def embed(self, texts: Any, role: Role, ids: object = None) -> Vectors:
        if not self._began:
            self._began = True
            container = psutil.Process().parent()
            print(STARTED, round(time.time() - container.create_time(), 2) if container else "?", file=sys.stderr)
        vectors: Vectors = self._embedder.embed(texts, role)
        return vectors


class ApartSession(SlowSession):
    def run_partitions(self, stage: str, plan: Any, pending: Any, work: Any, task: Any, **rest: Any) -> Any:
        return super(SlowSession, self).run_partitions(
            stage, plan, pending, TimedWork, SlowTask(task, self._part_s), **rest
        )

    def _leased(self, work: Any, task: Any, receipts: Any) -> WorkSpec[Any]:
        return WorkSpec(ApartWork, super()._leased(work, task, receipts).settings)


def main() -> int:
    conf, part_s = sys.argv[1:]
    try:
        print(embed_corpus(ApartSession(load_settings(conf), float(part_s))))
    except BackhaulError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    from tests.e2e import spot_child  # by its own name, under which a worker finds the Work

    sys.exit(spot_child.main())
