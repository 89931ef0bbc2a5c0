"""Calls behind their caller: one at a time, in order, waited for, errors raised."""

from __future__ import annotations

import threading

import pytest

from pipelines.behind import Behind


def test_results_come_in_order_and_one_call_late() -> None:
    with Behind[int]("test") as behind:
        assert behind.run(lambda: 1) == []
        assert behind.run(lambda: 2) == [1]
        assert behind.finish() == [2]
        assert behind.finish() == []


def test_a_call_runs_beside_its_caller_and_the_next_waits_for_it() -> None:
    go, order = threading.Event(), []

    def first() -> None:
        assert go.wait(10)
        order.append("first")

    with Behind[None]("test") as behind:
        behind.run(first)
        assert order == []
        go.set()
        behind.run(lambda: order.append("second"))
    assert order == ["first", "second"]


def test_an_error_is_raised_by_the_next_run() -> None:
    def broken() -> None:
        raise OSError("no space left on device")

    with Behind[None]("test") as behind:
        behind.run(broken)
        with pytest.raises(OSError, match="no space left"):
            behind.run(lambda: None)


def test_leaving_by_an_error_waits_for_the_call_and_raises_the_error() -> None:
    ended = threading.Event()

    def leave() -> None:
        with Behind[None]("test") as behind:
            behind.run(lambda: ended.set())
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert ended.is_set()
