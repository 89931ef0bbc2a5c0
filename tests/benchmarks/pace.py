"""The loader's own pace beside every static setting, on a free node, a throttled one, and one that stalls.

One command: ``python -m tests.benchmarks.pace [--rounds 5] [--seconds 20]``. Rows of 384 dimensions go through the real
writer into a fresh index of a real node for a while, and the bytes taken in the last two thirds of it are counted. First
a sweep of static settings (requests in flight, size of a body), then rounds of the best one of them and the loader's
own pace, interleaved. The same before a proxy that lets a quarter of the free rate through and refuses what its queue
cannot hold. Last, loads during which the node is frozen for 30 s, beside such as nothing disturbs: an index takes less as
it grows. Writes results/pace.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from pipelines.targets.on_opensearch import OpenSearchTarget
from pipelines.targets.opensearch_bulk import BulkWriter
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_gate import Gate
from pipelines.targets.opensearch_lines import Lines
from pipelines.targets.opensearch_pace import Pace
from pipelines.targets.opensearch_watch import Watch
from pipelines.targets.target import IndexSettings, Meta
from tests.benchmarks.machine import write_results
from tests.e2e.command import PROJECT
from tests.fixtures.faulty_opensearch import Throttle, faulty_opensearch
from tests.fixtures.opensearch import Node, running_node
from tests.targets.opensearch_case import SPACE, Case, send

DIMENSIONS, DISTINCT = 384, 4_000
MB = 1 << 20
SWEEP = [(in_flight, size) for in_flight in (1, 2, 4, 8) for size in (1 * MB, 4 * MB, 8 * MB)]
STALL_S = 30.0


class Static(Pace):
    """A setting that nothing changes."""

    def __init__(self, in_flight: int, size: int) -> None:
        super().__init__(size)
        self._fixed, self._size = in_flight, size

    @property
    def limit(self) -> int:
        return self._fixed

    @property
    def body_bytes(self) -> int:
        return self._size


class Counting(Gate):
    """Keeps when how many bytes were taken."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(pace)
        self.taken: list[tuple[float, int]] = []
        answered = pace.answered

        def count(sent_at: float, now: float, size: int, *, full: bool) -> None:
            self.taken.append((now, size))
            answered(sent_at, now, size, full=full)

        pace.answered = count  # type: ignore[method-assign]


@dataclass
class Load:
    """One load into an index of its own, for ``seconds``."""

    node: str
    url: str
    pace: Pace
    seconds: float
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Load:
        case = Case(self.node)
        settings = IndexSettings(target="opensearch", url=self.url, replicas=0, m=16, ef_construction=128)
        target = OpenSearchTarget(settings, case.log)
        meta = Meta(case.corpus, "r" * 12, {**SPACE.to_json(), "dimensions": DIMENSIONS}, ())
        target.create(case.name, meta, DIMENSIONS, rows=20_000)
        cluster, self.gate = Cluster(settings), Counting(self.pace)
        try:
            self.began = time.monotonic()
            BulkWriter(cluster, case.name, self.gate, Watch(cluster)).write(self._lines())
        finally:
            send(self.node, "DELETE", f"/{case.name}")
        return self

    def rate(self, since_s: float, until_s: float) -> float:
        """Bytes a second that were taken between two moments after the beginning."""
        since, until = self.began + since_s, self.began + until_s
        return sum(size for at, size in self.gate.taken if since <= at < until) / (until - since)

    @property
    def steady(self) -> float:
        return self.rate(self.seconds / 3, self.seconds)

    def _lines(self) -> Iterator[Lines]:
        cycle, until = 0, time.monotonic() + self.seconds
        while True:
            for number, document in enumerate(DOCUMENTS):
                if time.monotonic() > until:
                    return
                line = b'{"index":{"_id":"%d-%d"}}\n%b\n' % (cycle, number, document)
                yield Lines([(f"{cycle}-{number}", "", number)], [len(line)], memoryview(line))
            cycle += 1


def _documents() -> list[bytes]:
    vectors = np.random.default_rng(1).standard_normal((DISTINCT, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [orjson.dumps({"id": str(n), "text": "a sentence of some words", "vector": vectors[n]},
                         option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE) for n in range(DISTINCT)]  # fmt: skip


DOCUMENTS = _documents()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    arguments = parser.parse_args()
    with running_node() as node:
        Load(node.url, node.url, Pace(8 * MB), 15).run()  # whoever loads first pays for what is not compiled yet
        free = compare(node.url, None, arguments.rounds, arguments.seconds)
        quarter = free["best_static_mb_per_s"]["median"] * 1e6 / 4
        throttled = compare(node.url, quarter, arguments.rounds, arguments.seconds)
        figures = {"free": free, "throttled": throttled, "after_a_stall_by_undisturbed": stall(node, arguments.rounds)}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('pace', figures)}")
    return 0


def compare(node: str, bytes_per_s: float | None, rounds: int, seconds: float) -> dict[str, Any]:
    """``bytes_per_s``: of the throttle; None for none."""

    def load(pace: Pace) -> tuple[float, float]:
        """Bytes a second, and the share of requests that were refused, in the last two thirds."""
        if bytes_per_s is None:
            return Load(node, node, pace, seconds).run().steady, 0.0
        throttle = Throttle(bytes_per_s)
        with faulty_opensearch(node, throttle) as url:
            done = Load(node, url, pace, seconds).run()
        late = [refused for at, refused in throttle.seen if at >= done.began + seconds / 3]
        return done.steady, sum(late) / max(1, len(late))

    sweep = {setting: load(Static(*setting))[0] for setting in SWEEP}
    best = max(sweep, key=sweep.__getitem__)
    static, own, refused = [], [], []
    for number in range(rounds):
        static.append(load(Static(*best))[0])
        rate, share = load(Pace(8 * MB, seed=number))
        own.append(rate)
        refused.append(share)
        print(f"static {static[-1] / 1e6:.2f} MB/s, own pace {rate / 1e6:.2f} MB/s", file=sys.stderr, flush=True)
    return {
        "sweep_mb_per_s": {f"{n} in flight of {size // MB} MB": round(rate / 1e6, 2) for (n, size), rate in sweep.items()},
        "best_static": f"{best[0]} in flight of {best[1] // MB} MB",
        "best_static_mb_per_s": _spread([each / 1e6 for each in static]),
        "own_pace_mb_per_s": _spread([each / 1e6 for each in own]),
        "own_pace_by_best_static": _spread([a / b for a, b in zip(own, static, strict=True)]),
        "refused_share": _spread(refused),
    }  # fmt: skip


def stall(node: Node, rounds: int) -> dict[str, Any]:
    """The rate in steps of five seconds from when the node goes on, by that of an undisturbed load at the same age."""
    before_s, after_s = 15.0, 20.0
    steps: dict[str, list[float]] = {}
    for number in range(rounds):
        control = Load(node.url, node.url, Pace(8 * MB, seed=number), before_s + after_s).run()
        load = Load(node.url, node.url, Pace(8 * MB, seed=number), before_s + STALL_S + after_s)
        freezing = threading.Thread(target=_freeze, args=(node, before_s))
        freezing.start()
        load.run()
        freezing.join()
        for first in range(0, int(after_s), 5):
            since = before_s + first
            share = load.rate(STALL_S + since, STALL_S + since + 5) / control.rate(since, since + 5)
            steps.setdefault(f"{first} to {first + 5} s", []).append(share)
        print(f"after a stall {steps}", file=sys.stderr, flush=True)
    return {name: _spread(shares) for name, shares in steps.items()}


def _freeze(node: Node, after_s: float) -> None:
    time.sleep(after_s)
    node.freeze()
    time.sleep(STALL_S)
    node.thaw()


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    os.chdir(PROJECT)
    sys.exit(main())
