"""What embedding took: rates, shares of time and the price of a million tokens, from the timings of its attempts.

Knows records, no engine: the same figures for each, and while a run is under way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pipelines.embed.timing import Timing

_WORKERS = 16
_BINS = 60


def spent(timings: Sequence[Timing], attempts: int, usd_per_hour: float) -> dict[str, Any] | None:
    """Figures of an embedding; None where no attempt was timed.

    ``seconds`` are those of all workers together: ``loading`` model and store, ``computing`` in the embedder, ``waiting``
    for rows to embed, and making ``parts`` of them; ``by_worker`` has those that waited most. ``tokens_per_second`` is the rate of one worker at work, loading apart;
    ``waited_share`` that of its time in which the embedder waited for input. Attempts that were broken off left no timings;
    neither their time nor their tokens are in any of it.

    Args:
        timings: a sample, evenly of all ``attempts``.
        usd_per_hour: of one worker.
    """
    if not timings:
        return None
    by_worker: dict[str, list[Timing]] = defaultdict(list)
    for timing in timings:
        by_worker[timing.worker].append(timing)
    workers = sorted(map(_worker, by_worker.values()), key=lambda one: (-(one["waited_share"] or 0), one["worker"]))
    tokens = sum(timing.tokens for timing in timings)
    share = len(timings) / max(attempts, len(timings))
    seconds = {name: round(sum(one["seconds"][name] for one in workers) / (1 if name == "loading" else share), 3)
               for name in ("loading", "computing", "waiting", "parts")}  # fmt: skip
    worker_hours = sum(seconds.values()) / 3600
    return {
        "attempts": max(attempts, len(timings)),
        "attempts_measured": len(timings),
        "tokens": round(tokens / share),
        **rates(timings),
        "seconds": seconds,
        "worker_hours": round(worker_hours, 6),
        "usd_per_million_tokens": usd_per_million_tokens(worker_hours, tokens / share, usd_per_hour),
        "hardware": sorted({timing.hardware for timing in timings}),
        "workers": len(workers),
        "by_worker": workers[:_WORKERS],
        "over_time": over_time(timings, share),
    }


def rates(timings: Sequence[Timing]) -> dict[str, float | None]:
    """``tokens_per_second`` and ``waited_share`` as ``spent`` has them; None of no attempt."""
    elapsed_s = sum(timing.elapsed_s for timing in timings)
    tokens, waited_s = sum(timing.tokens for timing in timings), sum(timing.waited_s for timing in timings)
    return {"tokens_per_second": _rate(tokens, elapsed_s),
            "waited_share": round(waited_s / elapsed_s, 4) if elapsed_s else None}  # fmt: skip


def usd_per_million_tokens(worker_hours: float, tokens: float, usd_per_hour: float) -> float | None:
    """US dollars, from what machines cost. None when nothing was embedded.

    A remote embedder that bills tokens has a price of its own, which belongs here, beside that of the machines that ask it.
    """
    return round(worker_hours * usd_per_hour / tokens * 1e6, 6) if tokens else None


def over_time(timings: Sequence[Timing], share: float = 1.0) -> dict[str, Any]:
    """Tokens per second of all workers together, in equal steps of ``step_s`` over the time that somebody was at work:
    the hours or days between two invocations are left out."""
    spans: list[tuple[float, Timing]] = []
    end = idle = 0.0
    for timing in sorted(timings, key=lambda one: one.began_ms):
        began = timing.began_ms / 1000
        idle += max(0.0, began - end) if spans else began
        end = max(end, began + timing.elapsed_s)
        spans.append((began - idle, timing))
    whole = end - idle
    bins = min(_BINS, 4 * len(spans))
    if whole <= 0:
        return {"step_s": 0.0, "tokens_per_second": []}
    edges = [whole * i / bins for i in range(bins + 1)]
    tokens = [0.0] * bins
    for began, timing in spans:
        for i, (left, right) in enumerate(pairwise(edges)):
            both = min(right, began + timing.elapsed_s) - max(left, began)
            if both > 0:
                tokens[i] += timing.tokens * both / timing.elapsed_s
    step_s = whole / bins
    return {"step_s": round(step_s, 4), "tokens_per_second": [round(each / share / step_s, 1) for each in tokens]}


def _worker(timings: Sequence[Timing]) -> dict[str, Any]:
    first = timings[0]
    elapsed_s, computing_s, waited_s = (sum(getattr(one, name) for one in timings)
                                        for name in ("elapsed_s", "computing_s", "waited_s"))  # fmt: skip
    tokens = sum(timing.tokens for timing in timings)
    seconds = {"loading": first.load_s, "computing": computing_s, "waiting": waited_s,
               "parts": max(0.0, elapsed_s - computing_s - waited_s)}  # fmt: skip
    return {"worker": first.worker, "host": first.host, "hardware": first.hardware, "partitions": len(timings),
            "tokens": tokens, **rates(timings),
            "seconds": {name: round(each, 3) for name, each in seconds.items()}}  # fmt: skip


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 1) if seconds else None
