"""Which generation is live, looked at again and again; a new one is warmed before it answers. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from pipelines.errors import BackhaulError
from pipelines.releases import ReleaseLog
from pipelines.space import Space
from pipelines.targets.target import IndexTarget, Meta

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Live:
    """``mismatch``: how the encoder's Space differs from the generation's, field by field; empty: it does not.
    ``released_ms`` None: no record says when."""

    name: str
    meta: Meta
    filters: dict[str, str]
    mismatch: tuple[str, ...]
    released_ms: int | None

    @property
    def age_s(self) -> float | None:
        return None if self.released_ms is None else max(0.0, time.time() - self.released_ms / 1000)


class Follower:
    """``now`` is None until a live generation was seen. What cannot be looked at stays as it was.

    Args:
        warm: called with a new live generation, before it is ``now``; what it raises is logged and costs warmth alone.
    """

    def __init__(self, target: IndexTarget, releases: ReleaseLog, space: Space | None, follow_s: float,
                 threads: Executor, warm: Callable[[Live], Awaitable[None]]) -> None:  # fmt: skip
        self.now: Live | None = None
        self.trouble = "nothing was looked at yet"
        self._target, self._releases, self._space, self._follow_s = target, releases, space, follow_s
        self._threads, self._warm = threads, warm
        self._looking: asyncio.Task[None] | None = None
        self._follows: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._follows = asyncio.ensure_future(self._follow())

    async def stop(self) -> None:
        for task in (self._follows, self._looking):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, BackhaulError):
                    await task

    async def look(self) -> None:
        """Now, or with the look that is under way. Raises BackhaulError where the index or the store does not answer."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        await asyncio.shield(self._looking)

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
            except BackhaulError as error:
                self._say(str(error))
            except Exception as error:  # whatever it is, following must go on
                self._say(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._follow_s)

    async def _look(self) -> None:
        loop, corpus = asyncio.get_running_loop(), self._releases.corpus
        name = await loop.run_in_executor(self._threads, self._target.live, corpus)
        if name is None:
            self.now = None
            self._say(f"corpus {corpus} has no live generation; `backhaul run CONF` makes one")
            return
        if self.now is None or self.now.name != name:
            found = await loop.run_in_executor(self._threads, self._describe, name)
            if found is None:  # dropped since
                return
            if found.mismatch:
                log.error(
                    "generation %s is of another Space than this service embeds in: %s", name, "; ".join(found.mismatch)
                )
            try:
                await self._warm(found)
            except Exception as error:
                log.warning("generation %s goes live without being warmed: %s", name, error)
            log.info("generation %s is live", name)
            self.now = found
        self.trouble = ""

    def _describe(self, name: str) -> Live | None:
        meta = self._target.meta(name)
        if meta is None:
            return None
        there = Space(**meta.space)
        mismatch = tuple(self._space.difference(there)) if self._space else ()
        record = next((r for r in reversed(self._releases.all(self._target.id)) if r.generation == name), None)
        return Live(name, meta, self._target.filters(name), mismatch, record.at_ms if record else None)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("%s", trouble)
        self.trouble = trouble
