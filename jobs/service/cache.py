"""What was computed once and may be answered again: bounded, for a while, and computed once however many ask.

Keys carry the generation and the tenant, so that neither a release nor another asker ever meets an old or a foreign
value. Knows no question and no index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from cachetools import TTLCache

Value = TypeVar("Value")


class Cache(Protocol[Value]):
    """Another process's memory may stand behind it one day; so it may forget at any time, and never fails."""

    def get(self, key: Hashable) -> Value | None: ...

    def put(self, key: Hashable, value: Value) -> None: ...


class LocalCache(Generic[Value]):
    """In this process; the least recently used goes first. Used from one event loop."""

    def __init__(self, size: int, ttl_s: float) -> None:
        self._kept: TTLCache[Hashable, Value] = TTLCache(size, ttl_s)

    def get(self, key: Hashable) -> Value | None:
        return self._kept.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        if self._kept.maxsize > 0:
            self._kept[key] = value

    def __len__(self) -> int:
        return len(self._kept)


@dataclass(slots=True)
class Once(Generic[Value]):
    """A cache before a computation: those who ask for what is being computed wait for it."""

    cache: Cache[Value]
    hits: int = 0
    misses: int = 0
    _under_way: dict[Hashable, asyncio.Task[Value]] = field(default_factory=dict)

    def has(self, key: Hashable) -> bool:
        return self.cache.get(key) is not None

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[Value]]) -> tuple[Value, bool]:
        """The value, and whether it was there or on its way. What fails is not kept, and fails for all who waited."""
        found = self.cache.get(key)
        if found is not None:
            self.hits += 1
            return found, True
        task = self._under_way.get(key)
        shared = task is not None
        if task is None:
            self.misses += 1
            task = asyncio.ensure_future(self._compute(key, compute))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        else:
            self.hits += 1
        # One who gives up must not take the value from the others.
        return await asyncio.shield(task), shared

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[Value]]) -> Value:
        value = await compute()
        self.cache.put(key, value)
        return value

    def _ended(self, key: Hashable, done: asyncio.Task[Any]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()  # seen, also where everyone who asked has given up
