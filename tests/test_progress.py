"""What a verb shows while it works: on a terminal, in a log, and when it must be quiet."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re

import pytest

from jobs.engines.engine import Beat
from jobs.progress import Progress


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(stream: io.StringIO) -> list[str]:
    """The lines without their time, which is checked to be there."""
    lines = stream.getvalue().splitlines()
    stamp = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
    assert all(stamp.match(line) for line in lines)
    return [stamp.sub("", line) for line in lines]


def test_a_log_gets_a_line_at_most_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("embed", 40, 10, stream=stream, clock=clock) as progress:
        for _ in range(25):
            clock.now += 1
            progress.beat(Beat(5, 1000))
    assert len(lines_of(stream)) == 3  # after 10 s, after 20 s, and the end


def test_a_line_has_the_fixed_denominator_the_rate_and_the_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("embed", 40, 10, stream=stream, clock=clock) as progress:
        for _ in range(10):
            clock.now += 1
            progress.beat(Beat(5, 1000))
            progress.partition_done()
    # 10 of the 30 partitions of this run took 10 s
    assert lines_of(stream)[0] == "embed: 19/40 partitions, 50 rows, 1,000 tokens/s, 23 s left"


def test_known_rows_are_the_denominator() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("load", 4, 0, 1000, stream=stream, clock=clock) as progress:
        clock.now += 100
        progress.beat(Beat(100, 0))
    assert lines_of(stream)[0] == "load: 0/4 partitions, 100/1,000 rows, 15 min 00 s left"


def test_estimated_rows_give_the_time_left_and_are_called_so() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("embed", 1, 0, 1000, estimated=True, stream=stream, clock=clock) as progress:
        clock.now += 100
        progress.beat(Beat(100, 0))
        progress.beat(Beat(1100, 0))
        progress.partition_done()
    assert lines_of(stream)[0] == "embed: 0/1 partitions, 100 of about 1,000 rows, 15 min 00 s left"
    assert "1,200 of about 1,000 rows" in lines_of(stream)[-1]


def test_rows_that_are_done_again_do_not_pass_the_denominator() -> None:
    stream = io.StringIO()
    with Progress("load", 1, 0, 10, stream=stream) as progress:
        progress.beat(Beat(10, 0))
        progress.beat(Beat(10, 0))
    assert "10/10 rows" in lines_of(stream)[-1]


def test_the_last_line_sums_up() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("embed", 2, 1, stream=stream, clock=clock) as progress:
        clock.now += 4000
        progress.beat(Beat(7, 8_000_000))
        progress.partition_done()
    assert lines_of(stream)[-1] == "embed: 2/2 partitions, 7 rows in 1 h 06 min, 2,000 tokens/s"


def test_an_interruption_says_how_far_it_came() -> None:
    stream = io.StringIO()

    def work() -> None:
        with Progress("embed", 9, 1, stream=stream) as progress:
            progress.partition_done()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert lines_of(stream)[-1].startswith("embed: 2/9 partitions in 0 s")


def test_quiet_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("embed", 2, quiet=True) as progress:
        progress.beat(Beat(1, 1))
        progress.partition_done()
    assert capfd.readouterr() == ("", "")


def test_nothing_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with Progress("embed", 2) as progress:
        progress.partition_done()
    out, err = capfd.readouterr()
    assert out == ""
    assert "1/2 partitions" in err


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, Progress("embed", 4, 1, stream=terminal) as progress:
        progress.beat(Beat(10, 100))
        progress.partition_done()
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while block := os.read(ours, 65536):
            shown += block
    os.close(ours)
    assert "━" in shown.decode()
    assert "2/4 partitions, 10 rows in 0 s" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
