"""Calls that run behind the one who makes them, one at a time, each ended before the next begins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Behind(Generic[T]):
    """At most one call is under way; leaving the context waits for it. Its error is raised by the next ``run`` or
    ``finish``; where the context is left by another error, that one is raised and not the call's."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._under_way: Future[T] | None = None

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self._pool.shutdown(wait=True)

    def run(self, call: Callable[[], T]) -> list[T]:
        """Start ``call`` once the one before has ended; gives that one's result, if there was one."""
        ended = self.finish()
        self._under_way = self._pool.submit(call)
        return ended

    def finish(self) -> list[T]:
        """Wait for the call under way; its result, if there is one."""
        under_way, self._under_way = self._under_way, None
        return [under_way.result()] if under_way else []
