"""What lives as long as the service: the target, the encoder, who is live, what was kept; opened and closed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from jobs.service.admission import Admission
from jobs.service.asked import Asked
from jobs.service.auth import Caller
from jobs.service.breaker import Breaker
from jobs.service.cache import LocalCache, Once
from jobs.service.encoder import Encoder
from jobs.service.index import Index, Spent, within
from jobs.service.live import Follower, Live
from jobs.service.metrics import Metrics
from jobs.service.problems import Refusal
from jobs.service.requests import GenerationAnswer, GenerationsAnswer, ReadyAnswer, SearchRequest
from jobs.service.searcher import Searcher
from jobs.service.settings import ServeSettings
from pipelines.embed.embedder import Embedder
from pipelines.errors import BackhaulError
from pipelines.releases import ReleaseLog
from pipelines.search import Mode
from pipelines.targets.target import IndexTarget

_LISTED_FOR_S = 5.0
_WARM_S = 10.0


class Service:
    """``embedder`` None: lexical search and given vectors alone. ``drain`` is called by whoever shuts down."""

    def __init__(self, target: IndexTarget, releases: ReleaseLog, embedder: Embedder | None, settings: ServeSettings,
                 analyzer: str = "english") -> None:  # fmt: skip
        self.corpus = releases.corpus
        self.analyzer = analyzer
        self.guarded = settings.auth.method != "none"
        self.draining = False
        self.metrics = Metrics()
        self._settings, self._target, self._releases = settings, target, releases
        # Few more than may be in the index at once: looking at releases and lists, and threads that overstay.
        self._threads = ThreadPoolExecutor(settings.limits.max_in_flight + 8, thread_name_prefix="index")
        self._encoder = Encoder(embedder, settings.batch) if embedder else None
        self._follower = Follower(target, releases, embedder.space if embedder else None, settings.follow_s, self._threads,
                                  self._warm)  # fmt: skip
        kept = settings.cache
        index = Index(target, self._threads, Admission(settings.limits), Breaker(settings.limits.deadline_s / 2))
        self.searcher = Searcher(
            index, self.corpus, self._follower, self._encoder, settings.limits,
            Once(LocalCache(kept.vectors, kept.vectors_ttl_s)), Once(LocalCache(kept.results, kept.results_ttl_s)),
        )  # fmt: skip
        self._lists: Once[list[GenerationAnswer]] = Once(LocalCache(1, _LISTED_FOR_S))
        self._asked = Asked()

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:  # Any: FastAPI gives itself
        self._follower.start()
        try:
            yield
        finally:
            await self._follower.stop()
            if self._encoder:
                self._encoder.close()
            self._threads.shutdown(wait=False, cancel_futures=True)

    def drain(self) -> None:
        """It is not ready from now on."""
        self.draining = True

    def readiness(self) -> ReadyAnswer:
        """Ready while it knows a live generation in whose Space it embeds, and is not shutting down. An index that is away
        makes it no less ready: every other process has the same index."""
        live = self._follower.now
        reasons = ["shutting down"] if self.draining else []
        if live is None:
            reasons.append(self._follower.trouble)
        elif live.mismatch:
            reasons.append(f"generation {live.name} is of another Space: {'; '.join(live.mismatch)}")
        return ReadyAnswer(ready=not reasons, reasons=reasons, generation=live.name if live else None)

    async def generations(self, caller: Caller) -> GenerationsAnswer:
        """How many rows there are is told to those alone who may see them all.

        Raises:
            BackhaulError: the index refuses to list them.
            Refusal: it does not answer within the deadline.
        """
        live, limits = self._follower.now, self._settings.limits
        listed, _ = await within(self._lists.get("generations", self._list), time.monotonic() + limits.deadline_s)
        filters = dict(live.filters) if live else {}
        if caller.tenant is not None:
            filters.pop("tenant", None)
            listed = [each.model_copy(update={"rows": None}) for each in listed]
        modes: list[Mode] = ["hybrid", "lexical", "vector"] if self._encoder else ["lexical"]
        return GenerationsAnswer(
            corpus=self.corpus, live=live.name if live else None, tenant=caller.tenant, filters=filters, modes=modes,
            generations=[each.model_copy(update={"live": live is not None and each.name == live.name}) for each in listed],
            limits={"k": limits.max_k, "depth": limits.depth, "query_characters": limits.max_query_characters,
                    "filters": limits.max_filters, "values": limits.max_values},
        )  # fmt: skip

    def noted(self, asked: SearchRequest, caller: Caller) -> None:
        """A question that may be asked of the next generation before it goes live."""
        if asked.cursor is None and asked.generation is None and asked.vector is None:
            self._asked.add((caller, asked))

    def measured(self) -> bytes:
        searcher, metrics, live = self.searcher, self.metrics, self._follower.now
        for name, once in (("vectors", searcher.vectors), ("answers", searcher.answers)):
            metrics.cache.labels(name).set(once.hits / max(1, once.hits + once.misses))
        metrics.live.clear()
        if live:
            metrics.live.labels(live.name).set(1)
        metrics.ready.set(self.readiness().ready)
        metrics.in_flight.set(searcher.index.admission.in_flight)
        metrics.limit.set(searcher.index.admission.limit)
        metrics.circuit_open.set(searcher.index.breaker.is_open)
        return metrics.text()

    async def _list(self) -> list[GenerationAnswer]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._list_now)

    def _list_now(self) -> list[GenerationAnswer]:
        released = {record.generation: record.at_ms for record in self._releases.all(self._target.id)}
        now = time.time()
        return [
            GenerationAnswer(
                name=each.name, run_id=each.meta.run_id, rows=each.rows, live=False,
                released_at=datetime.fromtimestamp(at / 1000, UTC).isoformat() if (at := released.get(each.name)) else None,
                age_s=round(max(0.0, now - at / 1000), 3) if at else None,
            )
            for each in self._target.generations(self.corpus)
        ]  # fmt: skip

    async def _warm(self, live: Live) -> None:
        """Load what the encoder loads lazily, and ask the new generation what was asked most."""
        if live.mismatch:
            return
        if self._encoder:
            await self._encoder.query("warm")
        until = time.monotonic() + _WARM_S
        for caller, asked in self._asked.most(self._settings.cache.warmed):
            if time.monotonic() > until:
                break
            with suppress(Refusal, BackhaulError):  # a question that this generation cannot be asked
                await self.searcher.search(asked.model_copy(update={"generation": live.name}), caller, Spent())
