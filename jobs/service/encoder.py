"""Vectors of queries, one at a time at once, together where they come together. Knows no index and no cache."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipelines.embed.embedder import Embedder, Role, Vectors


class Encoder:
    """One thread embeds, since an Embedder is called from one thread; what comes meanwhile is the next batch. So a lone
    query never waits for others, and many cost less than each alone.

    Args:
        batch: queries that are embedded together at most.
    """

    def __init__(self, embedder: Embedder, batch: int) -> None:
        self.space = embedder.space
        self._embedder = embedder
        self._batch = batch
        self._waiting: deque[tuple[str, asyncio.Future[Vectors]]] = deque()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    async def query(self, text: str) -> Vectors:
        """float32[dimensions]."""
        vector: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, vector))
        if not self._busy:
            self._busy = True
            self._next()
        return await vector

    async def many(self, texts: Sequence[str], role: Role) -> Vectors:
        """float32[len(texts), dimensions], in one batch of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, list(texts), role)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """Embed what waits, and whatever came meanwhile afterwards. In the event loop."""
        taken: list[tuple[str, asyncio.Future[Vectors]]] = []
        while self._waiting and len(taken) < self._batch:
            text, vector = self._waiting.popleft()
            if not vector.done():  # whoever asked may have given up
                taken.append((text, vector))
        if not taken:
            self._busy = False
            return
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._thread, self._embed, [text for text, _ in taken], "query")
        done.add_done_callback(lambda found: self._give([vector for _, vector in taken], found))

    def _give(self, wanted: Sequence[asyncio.Future[Vectors]], found: asyncio.Future[Vectors]) -> None:
        error = found.exception() if not found.cancelled() else asyncio.CancelledError()
        for row, vector in enumerate(wanted):
            if vector.done():
                continue
            if error is None:
                vector.set_result(found.result()[row])
            else:
                vector.set_exception(error)
        self._next()

    def _embed(self, texts: Sequence[str], role: Role) -> Vectors:
        return np.ascontiguousarray(self._embedder.embed(texts, role))
