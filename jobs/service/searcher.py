"""What a question does: its generation, its vector, its filters; the index asked; the hits checked. Knows no HTTP."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from jobs.service.admission import Admission
from jobs.service.auth import Caller
from jobs.service.breaker import Breaker
from jobs.service.cache import Once
from jobs.service.cursor import Cursor, read_cursor
from jobs.service.encoder import Encoder
from jobs.service.limits import LimitSettings
from jobs.service.live import Follower
from jobs.service.problems import Refusal
from jobs.service.requests import Bounds, SearchRequest, Value
from jobs.service.tenancy import filters_for, own
from pipelines.digest import digest_of
from pipelines.embed.embedder import Vectors
from pipelines.errors import NoGeneration, QueryRefused, TargetError
from pipelines.search import How, search_vectors
from pipelines.space import Space
from pipelines.targets.filters import Filter, equals
from pipelines.targets.target import Hit, IndexTarget, Meta, Query

_MOST_CHUNKS = 500  # of a document that is shown
Found = TypeVar("Found")


@dataclass(slots=True)
class Spent:
    """Seconds of one request by what they went to, and what its audit line says."""

    index_s: float = 0.0
    embed_s: float = 0.0
    cached: bool = False
    generation: str = ""
    hits: int = 0


@dataclass(slots=True)
class _Work:
    """What became of it: ``answered`` by the index, or ``dropped``, as it took too long or was refused for overload."""

    answered: bool = False
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class _Timed:
    """The target, its searches timed; what is fused here is no work of the index."""

    target: IndexTarget
    spent: Spent

    @property
    def fuses(self) -> bool:
        return self.target.fuses

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]:
        began = time.monotonic()
        try:
            return self.target.search(name, queries, deadline_s=deadline_s)
        finally:
            self.spent.index_s += time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Answer:
    generation: str
    hits: list[Hit]
    cursor: str | None


@dataclass(slots=True)
class Searcher:
    """Used from one event loop. ``encoder`` None: lexical search, and queries that come as vectors, alone."""

    target: IndexTarget
    corpus: str
    follower: Follower
    encoder: Encoder | None
    limits: LimitSettings
    admission: Admission
    breaker: Breaker
    vectors: Once[Vectors]
    answers: Once[tuple[list[Hit], bool]]
    threads: Executor
    _named: dict[str, Meta] = field(default_factory=dict)

    async def search(self, asked: SearchRequest, caller: Caller, spent: Spent) -> Answer:
        """Raises Refusal."""
        until = time.monotonic() + self.limits.deadline_s
        filters = filters_for(caller, _filters(asked))
        self._must_be_small(asked, filters)
        question = _question(asked, caller)
        cursor = read_cursor(asked.cursor, question, self.limits.depth) if asked.cursor else None
        name = cursor.generation if cursor else asked.generation
        try:
            generation = await self._generation(name, until)
        except Refusal as refusal:
            raise _gone(name) if cursor and refusal.code == "not_found" else refusal from refusal
        spent.generation = generation
        how = self._how(asked, filters, cursor.skip if cursor else 0)
        key = (generation, caller.tenant, question, how.skip, how.k)

        wanted = replace(how, k=min(how.k + 1, self.limits.depth - how.skip))  # one more says whether there are more

        async def ask() -> tuple[list[Hit], bool]:
            timed = _Timed(self.target, spent)
            with self._admitted(caller) as work:  # before anything is embedded
                vector = await self._vector(asked, generation, until, spent)
                hits = await self._index(
                    lambda left: search_vectors(timed, generation, [asked.query], vector, wanted, deadline_s=left)[0],
                    work, until)  # fmt: skip
            return hits[: how.k], len(hits) > how.k

        try:
            (hits, more), spent.cached = await _within(self.answers.get(key, ask), until)
        except TargetError as error:
            return await self._again(asked, caller, spent, generation, error)
        own(hits, caller)
        spent.hits = len(hits)
        end = how.skip + len(hits)
        following = str(Cursor(generation, question, end)) if more and end < self.limits.depth else None
        return Answer(generation, hits, following)

    async def embed(self, texts: Sequence[str], role: str, caller: Caller, spent: Spent) -> Vectors:
        """float32[len(texts), dimensions]. Raises Refusal."""
        if self.encoder is None:
            raise Refusal("not_found", "this service embeds nothing; it answers lexical search and vectors")
        until, began = time.monotonic() + self.limits.deadline_s, time.monotonic()
        admitted = self.admission.enter(caller.tenant)
        try:
            return await _within(self.encoder.many(texts, "query" if role == "query" else "document"), until)
        finally:
            spent.embed_s = time.monotonic() - began
            admitted.leave(seconds=None, dropped=False)

    async def document(self, document_id: str, generation: str | None, tenant: str | None, caller: Caller, spent: Spent,
                       ) -> tuple[str, list[Hit], bool]:  # fmt: skip
        """(generation, chunks by ordinal, whether these are all). Raises Refusal."""
        until = time.monotonic() + self.limits.deadline_s
        name = spent.generation = await self._generation(generation, until)
        filters = filters_for(caller, () if tenant is None else (equals("tenant", tenant),))
        try:
            with self._admitted(caller) as work:
                hits = await self._index(
                    lambda left: self.target.chunks(name, document_id, filters, _MOST_CHUNKS + 1, deadline_s=left),
                    work, until)  # fmt: skip
        except TargetError as error:
            raise _refusal(error) from error
        own(hits, caller)
        spent.hits = len(hits)
        if not hits:
            raise Refusal("not_found", f"generation {name} has no document {document_id[:200]!r} for this caller")
        return name, hits[:_MOST_CHUNKS], len(hits) <= _MOST_CHUNKS

    async def _generation(self, name: str | None, until: float) -> str:
        """The live one, or the named one if it is of this corpus. Its alias is resolved here, once per question."""
        live = self.follower.now
        if name is None or (live and name == live.name):
            if live is None:
                raise Refusal(
                    "unavailable", self.follower.trouble or "no live generation is known yet", retry_after_s=1
                )
            return live.name
        if name not in self._named:
            await self._read_named(name, until)
        return name

    async def _read_named(self, name: str, until: float) -> None:
        if not re.fullmatch(rf"{re.escape(self.corpus)}-[0-9a-f]{{12}}-[0-9a-f]{{8}}", name):
            raise Refusal(
                "not_found", f"corpus {self.corpus} has no generation {name[:100]!r}; GET /v1/generations lists them"
            )
        try:
            meta = await _within(self._thread(lambda: self.target.meta(name)), until)
        except TargetError as error:
            raise _refusal(error) from error
        if meta is None or meta.corpus != self.corpus:
            raise Refusal("not_found", f"corpus {self.corpus} has no generation {name}; GET /v1/generations lists them")
        self._named[name] = meta

    async def _vector(self, asked: SearchRequest, generation: str, until: float, spent: Spent) -> Vectors | None:
        """float32[1, dimensions] in the generation's Space; None for lexical search."""
        if asked.mode == "lexical":
            return None
        live = self.follower.now
        meta = live.meta if live and live.name == generation else self._named[generation]
        dimensions = int(meta.space["dimensions"])
        if asked.vector is not None:
            if len(asked.vector) != dimensions:
                raise Refusal(
                    "bad_request",
                    f"vector has {len(asked.vector)} components; generation {generation} takes {dimensions}",
                )
            given = np.array([asked.vector], dtype=np.float32)
            if not np.isfinite(given).all() or not given.any():
                raise Refusal(
                    "bad_request", "vector has a component that is no float32, or is zero; nothing is near it"
                )
            return given
        if self.encoder is None:
            raise Refusal("bad_request", "this service embeds no queries; use mode lexical, or give a vector")
        if difference := self.encoder.space.difference(_space(meta)):
            raise Refusal("space_mismatch", f"generation {generation} holds vectors of another Space than this service embeds "
                          "queries in; serve it with the settings that it was made with", details=difference, retry_after_s=5)  # fmt: skip
        encoder, text = self.encoder, asked.query or ""
        began = time.monotonic()
        key = (encoder.space.fingerprint, text)
        vector, _ = await _within(self.vectors.get(key, lambda: encoder.query(text)), until)
        spent.embed_s = time.monotonic() - began
        return vector[None, :]

    @contextmanager
    def _admitted(self, caller: Caller) -> Iterator[_Work]:
        """One of those that may work at once, from embedding to the index's answer."""
        admitted, work, began = self.admission.enter(caller.tenant), _Work(), time.monotonic()
        try:
            yield work
        except Refusal as refusal:
            work.dropped = work.dropped or refusal.code == "deadline"
            raise
        finally:
            seconds = time.monotonic() - began if work.answered else None
            admitted.leave(seconds=seconds, dropped=work.dropped)

    async def _index(self, ask: Callable[[float], Found], work: _Work, until: float) -> Found:
        """What ``ask`` gets from the index, in a thread, within the deadline."""
        self.breaker.before()
        sound: bool | None = False
        try:
            found = await _within(self._thread(lambda: ask(until - time.monotonic())), until)
            sound = work.answered = True
            return found
        except QueryRefused:
            sound = None  # it was not asked
            raise
        except TargetError as error:
            sound = isinstance(error, NoGeneration) or _is_answer(error)
            work.dropped = not (isinstance(error, NoGeneration) or _is_question(error))
            raise
        finally:
            self.breaker.after(sound)

    async def _again(
        self, asked: SearchRequest, caller: Caller, spent: Spent, generation: str, error: TargetError
    ) -> Answer:
        """A generation may have been dropped since the last look: then another one is live, or it was named."""
        if not isinstance(error, NoGeneration):
            raise _refusal(error) from error
        self._named.pop(generation, None)
        if asked.generation or asked.cursor:
            raise _gone(generation) from error
        await self.follower.look()
        live = self.follower.now
        if live is None or live.name == generation:
            raise _refusal(error) from error
        return await self.search(asked, caller, spent)

    def _must_be_small(self, asked: SearchRequest, filters: Sequence[Filter]) -> None:
        limits = self.limits
        if asked.k > limits.max_k:
            raise Refusal(
                "bad_request", f"k is {asked.k}; this service gives at most {limits.max_k} hits at once, and cursors"
            )
        if asked.query and len(asked.query) > limits.max_query_characters:
            raise Refusal(
                "bad_request",
                f"query has {len(asked.query)} characters; at most {limits.max_query_characters} are taken",
            )
        if len(asked.filter) > limits.max_filters or any(len(each.any_of) > limits.max_values for each in filters):
            raise Refusal(
                "bad_request",
                f"filter has more than {limits.max_filters} fields, or one more than {limits.max_values} values",
            )

    def _how(self, asked: SearchRequest, filters: tuple[Filter, ...], skip: int) -> How:
        k = min(asked.k, self.limits.depth - skip)
        return How(mode=asked.mode, k=k, skip=skip, exact=asked.exact, filters=filters, by_document=asked.group_by_document,
                   fusion=asked.fusion.method, lexical_weight=asked.fusion.lexical_weight, candidates=self.limits.depth,
                   with_vectors=asked.with_vectors)  # fmt: skip

    def _thread(self, call: Callable[[], Found]) -> Awaitable[Found]:
        return asyncio.get_running_loop().run_in_executor(self.threads, call)


async def _within(what: Awaitable[Found], until: float) -> Found:
    """Raises Refusal at the deadline; a thread that is still at it is left to its own, which is the same."""
    try:
        async with asyncio.timeout(until - time.monotonic()):
            return await what
    except TimeoutError as error:
        raise Refusal(
            "deadline", "the index or the model took too long; ask again, or ask for less", retry_after_s=1
        ) from error


def _filters(asked: SearchRequest) -> tuple[Filter, ...]:
    return tuple(_filter(name, condition) for name, condition in asked.filter.items())


def _filter(name: str, condition: Value | list[Value] | Bounds) -> Filter:
    if isinstance(condition, Bounds):
        low, high = condition.from_, condition.to
        return Filter(
            name, at_least=None if low is None else _spelled(low), at_most=None if high is None else _spelled(high)
        )
    values = condition if isinstance(condition, list) else [condition]
    return Filter(name, tuple(map(_spelled, values)))


def _spelled(value: Value) -> str:
    """As a field's type has it: JSON's true is the text true."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _question(asked: SearchRequest, caller: Caller) -> str:
    """Digest of all that decides which hits there are and their order, the asker's tenant included."""
    decides = asked.model_dump_json(exclude={"k", "cursor", "explain", "highlight", "generation"})
    return digest_of([caller.tenant, decides])


def _space(meta: Meta) -> Space:
    return Space(**meta.space)


def _gone(generation: str | None) -> Refusal:
    return Refusal("gone", f"generation {generation} is gone; ask again without cursor and generation")


def _is_question(error: TargetError) -> bool:
    """Whether the index says that the question is at fault: of more words than it takes, for one."""
    failure = getattr(error, "failure", None)
    return failure is not None and failure.status == 400


def _is_answer(error: TargetError) -> bool:
    """Whether the index is there, if only to say that the question is at fault or that it has too much to do."""
    failure = getattr(error, "failure", None)
    return failure is not None and failure.status in (400, 429)


def _refusal(error: TargetError) -> Refusal:
    if _is_question(error):
        return Refusal("bad_request", "the index does not take this question; ask with fewer words")
    return Refusal("unavailable", "the index does not answer as it should; ask again in a moment", retry_after_s=1)
