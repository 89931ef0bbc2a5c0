"""The index as the service asks it: in threads, within a deadline, the limits of admission and the breaker. Knows no
question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from jobs.service.admission import Admission
from jobs.service.breaker import Breaker
from jobs.service.problems import Refusal
from jobs.service.refusals import Overloaded
from pipelines.errors import NoGeneration, QueryRefused, TargetError
from pipelines.targets.target import Hit, IndexTarget, Query

Found = TypeVar("Found")

_TOO_SLOW = ("timeout", "search_timed_out")


@dataclass(slots=True)
class Spent:
    """Seconds of one request by what they went to, and what its audit line says."""

    index_s: float = 0.0
    embed_s: float = 0.0
    cached: bool = False
    generation: str = ""
    hits: int = 0


@dataclass(slots=True)
class Took:
    """What the index took for a request in hand, threads and waiting included; None: it was not asked."""

    seconds: float | None = None
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Timed:
    """The target, its answers timed; what is fused here is no work of the index."""

    target: IndexTarget
    spent: Spent

    @property
    def fuses(self) -> bool:
        return self.target.fuses

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]:
        with self._timed():
            return self.target.search(name, queries, deadline_s=deadline_s)

    def rows(self, name: str, hits: Sequence[Hit], *, with_vectors: bool = False, deadline_s: float | None = None,
             ) -> list[Hit]:  # fmt: skip
        with self._timed():
            return self.target.rows(name, hits, with_vectors=with_vectors, deadline_s=deadline_s)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.spent.index_s += time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Index:
    """Used from one event loop."""

    target: IndexTarget
    threads: Executor
    admission: Admission
    breaker: Breaker

    @contextmanager
    def admitted(self, tenant: str | None, *, kept: bool = False) -> Iterator[Took]:
        """A request in hand, from before anything is computed for it: what is turned away must cost little.

        Args:
            kept: its answer is at hand, so that it is within its tenant's rate, and takes no place where there is none.

        Raises:
            RateLimited, Overloaded: it is turned away.
        """
        asked = Took()
        try:
            held = self.admission.enter(tenant)
        except Overloaded:
            if not kept:
                raise
            yield asked
            return
        began = time.monotonic()
        try:
            yield asked
        except Refusal as refusal:
            if refusal.code == "deadline":  # whoever computes for several may not have heard of it yet
                asked.seconds, asked.dropped = time.monotonic() - began, True
            raise
        finally:
            held.leave(seconds=asked.seconds, dropped=asked.dropped)

    async def ask(self, call: Callable[[float], Found], until: float, asked: Took) -> Found:
        """What ``call`` gets from the target with the seconds that are left.

        Raises:
            Refusal: the circuit is open, or the deadline has passed.
            QueryRefused, TargetError: as ``call`` does.
        """
        self.breaker.before()
        began, asked.dropped = time.monotonic(), True
        sound: bool | None = False
        try:
            found = await within(self.thread(lambda: call(until - time.monotonic())), until)
            sound, asked.dropped, asked.seconds = True, False, time.monotonic() - began
            return found
        except QueryRefused:  # before anything was sent
            sound, asked.dropped = None, False
            raise
        except TargetError as error:
            sound, asked.dropped = isinstance(error, NoGeneration) or _is_answer(error), _is_overload(error)
            raise
        finally:
            self.breaker.after(sound)

    def thread(self, call: Callable[[], Found]) -> Awaitable[Found]:
        return asyncio.get_running_loop().run_in_executor(self.threads, call)


async def within(what: Awaitable[Found], until: float) -> Found:
    """Raises Refusal at the deadline; a thread that is still at it is left to its own, which is the same."""
    try:
        async with asyncio.timeout(until - time.monotonic()):
            return await what
    except TimeoutError as error:
        said = "the index or the model took too long; ask again, or ask for less"
        raise Refusal("deadline", said, retry_after_s=1) from error


def blames_question(error: TargetError) -> bool:
    """Whether the index says that the question is at fault: of more words than it takes, for one."""
    failure = getattr(error, "failure", None)
    return failure is not None and failure.status == 400


def _is_answer(error: TargetError) -> bool:
    """Whether the index is there, if only to say that the question is at fault or that it has too much to do."""
    failure = getattr(error, "failure", None)
    return failure is not None and failure.status in (400, 429)


def _is_overload(error: TargetError) -> bool:
    """Whether less at once would help: an index that is away, or fails, is no overload."""
    failure = getattr(error, "failure", None)
    return failure is not None and (failure.status == 429 or failure.type in _TOO_SLOW)


def refusal_of(error: TargetError) -> Refusal:
    if blames_question(error):
        return Refusal("bad_request", "the index does not take this question; ask with fewer words")
    return Refusal("unavailable", "the index does not answer as it should; ask again in a moment", retry_after_s=1)
