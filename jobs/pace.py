"""How fast a stage goes and when it will be done, from when its receipts were committed. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import nlargest
from statistics import fmean

from pipelines.receipts import Receipts

_RECENT = 100
_READ = 20
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Pace:
    """None: not known, as after the first receipt; ``eta_s`` only while something is running."""

    partitions_per_minute: float | None = None
    rows_per_minute: float | None = None
    eta_s: float | None = None


def pace_of(receipts: Receipts, committed: Mapping[str, int], *, left: int, now_ms: int,
            running_since_ms: int | None) -> Pace:  # fmt: skip
    """The pace over the last hundred receipts, those of the workers at work now where there are any.

    Rows are those of the newest twenty, which are read for it.

    Args:
        committed: when each partition was, in ms since 1970 by the store's clock (S3 tells whole seconds).
        left: partitions that are still to be done.
        running_since_ms: since when the oldest worker has been at it; None: nobody is.
    """
    wanted = ((at, one) for one, at in committed.items() if running_since_ms is None or at >= running_since_ms)
    recent = nlargest(_RECENT, wanted)[::-1]
    if len(recent) < 2:
        return Pace()
    (first, _), (last, _) = recent[0], recent[-1]
    span_ms = (last if running_since_ms is None else max(now_ms, last)) - first
    if span_ms <= 0:
        return Pace()
    per_minute = (len(recent) - 1) / span_ms * _MINUTE_MS
    eta_s = None if running_since_ms is None else left / per_minute * 60
    return Pace(round(per_minute, 2), round(per_minute * _mean_rows(receipts, [one for _, one in recent[-_READ:]]), 1),
                eta_s and round(eta_s, 1))  # fmt: skip


def _mean_rows(receipts: Receipts, ids: list[str]) -> float:
    with ThreadPoolExecutor(_READ) as pool:
        return fmean(receipt["rows"] if receipt else 0 for receipt in pool.map(receipts.find, ids))
