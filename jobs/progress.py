"""How far a verb is: a bar on a terminal, plain lines elsewhere, nothing when quiet. Always on standard error.

Counts partitions, rows and tokens; knows no stage.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from jobs.engines.engine import Beat

_LINE_EVERY_S = 10.0
_BAR_FROM_COLUMNS = 90  # on a narrower terminal the counts need the whole line
_SAMPLE_EVERY_S = 1.0
_WINDOW = 30  # samples that rate and ETA look back: long enough to be calm, short enough to forget the start


class Progress:
    """A fixed denominator: ``total_rows`` (of what this run has to do) where they are known or ``estimated``, else
    ``total_partitions``, of which ``done_partitions`` were done before. Rate and ETA are of this run alone.

    On a terminal the bar moves; elsewhere a line with the time is written at most every ten seconds, and one
    at the end.
    """

    def __init__(self, title: str, total_partitions: int, done_partitions: int = 0, total_rows: int | None = None, *,
                 estimated: bool = False, quiet: bool = False, stream: TextIO | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:  # fmt: skip
        self._title = title
        self._total = total_partitions
        self._before = done_partitions
        self._total_rows = total_rows
        self._estimated = estimated
        self._partitions = self._rows = self._tokens = 0
        self._clock = clock
        self._began = self._spoke = clock()
        self._samples = deque([(self._began, 0, 0)], maxlen=_WINDOW)
        self._stream = None if quiet else stream or sys.stderr
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self._began = self._spoke = self._clock()
        self._samples = deque([(self._began, 0, 0)], maxlen=_WINDOW)
        if self._stream is not None:
            console = Console(file=self._stream)
            if console.is_terminal and not console.is_dumb_terminal:
                text, width = TextColumn(f"{self._title} {{task.description}}"), console.width
                columns = [text, BarColumn(bar_width=None)] if width >= _BAR_FROM_COLUMNS else [text]
                self._bar = Bar(*columns, console=console, expand=True)
                self._bar.add_task("", total=self._denominator)
                self._bar.start()
                self._show()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if self._bar is not None:
            self._show(self._summary())
            self._bar.stop()
        elif self._stream is not None:
            self._say(self._summary())

    def beat(self, beat: Beat) -> None:
        """``beat.rows`` more rows are done, and ``beat.tokens`` tokens."""
        self._rows += beat.rows
        self._tokens += beat.tokens
        self._moved()

    def partition_done(self) -> None:
        self._partitions += 1
        self._moved()

    @property
    def _denominator(self) -> int:
        return self._total - self._before if self._total_rows is None else self._total_rows

    @property
    def _units(self) -> int:
        """What is done of the denominator. A partition that is done again after its worker died beats twice."""
        return self._partitions if self._total_rows is None else min(self._rows, self._total_rows)

    def _moved(self) -> None:
        now = self._clock()
        if now - self._samples[-1][0] >= _SAMPLE_EVERY_S:
            self._samples.append((now, self._units, self._tokens))
        if self._bar is not None:
            self._show()
        elif self._stream is not None and now - self._spoke >= _LINE_EVERY_S:
            self._spoke = now
            self._say(f"{self._counts()}{self._pace(now)}")

    def _show(self, text: str | None = None) -> None:
        if self._bar is not None:
            line = text or f"{self._counts()}{self._pace(self._clock())}"
            self._bar.update(self._bar.task_ids[0], completed=self._units, description=line)

    def _say(self, text: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        print(f"{stamp} {self._title}: {text}", file=self._stream, flush=True)

    def _counts(self) -> str:
        counts = f"{self._before + self._partitions:,}/{self._total:,} partitions"
        if self._total_rows is not None and self._estimated:
            counts += f", {self._rows:,} of about {self._total_rows:,} rows"
        elif self._total_rows is not None:
            counts += f", {self._units:,}/{self._total_rows:,} rows"
        elif self._rows:
            counts += f", {self._rows:,} rows"
        return counts

    def _pace(self, now: float) -> str:
        then, units, tokens = self._samples[0]
        elapsed_s = now - then
        if elapsed_s <= 0:
            return ""
        pace = f", {(self._tokens - tokens) / elapsed_s:,.0f} tokens/s" if self._tokens else ""
        if self._units > units:
            pace += f", {_duration((self._denominator - self._units) * elapsed_s / (self._units - units))} left"
        return pace

    def _summary(self) -> str:
        elapsed_s = self._clock() - self._began
        rate = f", {self._tokens / elapsed_s:,.0f} tokens/s" if self._tokens and elapsed_s > 0 else ""
        return f"{self._counts()} in {_duration(elapsed_s)}{rate}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
