"""Run an iterator ahead of its consumer in a thread, a bounded number of items deep."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterator[T], depth: int, *, is_last: Callable[[T], bool] = lambda item: False) -> Iterator[T]:
    """Yield ``items`` in order while a thread prepares up to ``depth`` more; its error is raised here.

    The thread ends when the items do, or within a second of the consumer closing this generator. There is none when
    ``is_last`` says that nothing follows the first item.
    """
    if not (head := [*islice(items, 1)]) or is_last(head[0]):
        yield from head
        return
    slots: queue.Queue[object] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def offer(item: object) -> bool:
        while not closed.is_set():
            try:
                slots.put(item, timeout=0.5)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
            offer(_END)
        except BaseException as error:
            offer(error)

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield head[0]
        while (item := slots.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]  # the queue holds T, _END or an exception
    finally:
        closed.set()
        thread.join(timeout=5)
