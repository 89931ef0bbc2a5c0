"""Reading ahead in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipelines.embed.ahead import ahead


def _threads(count: int, seen: list[str]) -> Iterator[int]:
    for number in range(count):
        seen.append(threading.current_thread().name)
        yield number


def test_items_come_in_order_and_from_a_thread_that_ends_with_them() -> None:
    seen: list[str] = []
    assert list(ahead(_threads(5, seen), 1)) == [0, 1, 2, 3, 4]
    assert set(seen[1:]) == {"read-ahead"}
    assert "read-ahead" not in {thread.name for thread in threading.enumerate()}


def test_the_next_item_is_read_while_the_first_is_in_use() -> None:
    reached = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        reached.set()
        yield 1

    taken = ahead(items(), 1)
    assert next(taken) == 0
    assert reached.wait(10)
    assert list(taken) == [1]


def test_no_thread_where_nothing_follows_the_first_item() -> None:
    seen: list[str] = []
    assert list(ahead(_threads(1, seen), 1, is_last=lambda item: item == 0)) == [0]
    assert list(ahead(iter(()), 1)) == []
    assert seen == [threading.current_thread().name]


def test_an_error_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise ValueError("broken")

    taken = ahead(items(), 2)
    assert [next(taken), next(taken)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        next(taken)
