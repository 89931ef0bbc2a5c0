"""The embed verb with an embedder that takes its time, as a busy accelerator does: the processor is left alone.

``python -m tests.e2e.slow_embed CONF SECONDS_PER_PART``; everything but the wait is ``backhaul embed CONF``.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.session import Session
from jobs.settings import Settings, load_settings
from jobs.verbs.embed import embed_corpus
from pipelines.embed.embedder import Embedder, Role, Vectors
from pipelines.embed.work import EmbedTask, EmbedWork
from pipelines.errors import BackhaulError


@dataclass(frozen=True)
class SlowTask:
    task: EmbedTask
    part_s: float


class SlowEmbedWork(EmbedWork):
    def __init__(self, slow: SlowTask) -> None:
        super().__init__(slow.task)
        self._embedder = _Slow(self._embedder, slow.part_s)


class _Slow:
    def __init__(self, embedder: Embedder, part_s: float) -> None:
        self.space, self.maker = embedder.space, embedder.maker
        self._embedder, self._part_s = embedder, part_s

    def embed(self, texts: Sequence[str], role: Role, ids: object = None) -> Vectors:
        time.sleep(self._part_s)
        return self._embedder.embed(texts, role)


class SlowSession(Session):
    def __init__(self, settings: Settings, part_s: float) -> None:
        super().__init__(settings)
        self._part_s = part_s

    def run_partitions(self, stage: str, plan: Any, pending: Any, work: Any, task: Any, **rest: Any) -> Any:
        return super().run_partitions(stage, plan, pending, SlowEmbedWork, SlowTask(task, self._part_s), **rest)


def main() -> int:
    conf, part_s = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        embed_corpus(SlowSession(load_settings(conf), float(part_s)))
    except BackhaulError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    from tests.e2e import slow_embed  # by its own name, under which a worker finds the Work

    sys.exit(slow_embed.main())
