"""What the service does with five times of what its index answers: figures of the real process under open load.

One command: ``python -m tests.service.overload``. ``backhaul serve`` over an index of 8 slots of 50 ms
(tests/fixtures/slotted_opensearch.py), lexical questions, answers not kept. First questions now and then, then as many as
the index answers and a little more, then five times as many. Writes results/overload.json. Exits 1 when a figure misses
what is promised.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from tests.benchmarks.machine import write_results
from tests.e2e.command import backhaul
from tests.fixtures.opensearch import delete_indices, running_node
from tests.fixtures.slotted_opensearch import slotted_opensearch
from tests.service.load import NUMBER, Answer, load_for
from tests.service.served import Served, served, tenants_conf

SLOTS, SERVICE_S = 8, 0.050
CAN_PER_S = SLOTS / SERVICE_S
FACTOR = 5
SETTLE_S = 2.0  # of each load, of which no figure is taken
QUESTION = {"query": f"wagons in the steam yard {NUMBER}", "mode": "lexical", "k": 10}


@dataclass
class Overload:
    """Latencies in ms, from the moment a request was due; goodput in answers a second."""

    peak_goodput: float = 0.0
    goodput: float = 0.0
    unloaded: dict[str, float] = field(default_factory=dict)
    saturated: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    offered_per_s: float = 0.0
    sent_late_ms: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    retry_after_s: dict[str, float] = field(default_factory=dict)
    cpu_share: float = 0.0
    rss_mb: dict[str, float] = field(default_factory=dict)

    @property
    def misses(self) -> list[str]:
        return [
            what
            for what, kept in {
                "goodput at five times is 90 % of the peak": self.goodput >= 0.9 * self.peak_goodput,
                "p99 of those let in is twice the unloaded one": self.accepted["p99"] <= 2 * self.unloaded["p99"],
                "nothing but answers and refusals": set(self.statuses) <= {"200", "503 overloaded"},
                "refused within the time of an answer": self.refused["p99"] <= self.unloaded["p50"],
                "as many were asked as was meant": self.offered_per_s >= 0.97 * FACTOR * CAN_PER_S,
                "memory is bounded": self.rss_mb["after"] <= self.rss_mb["before"] + 50,
            }.items()
            if not kept
        ]


def overload(folder: Path, node: str, *, seconds: float) -> Overload:
    """``seconds`` of the overload; the other loads are shorter."""
    conf = tenants_conf(folder, corpus=f"overload-{folder.name.lower().replace('_', '-')[-12:]}",
                        index={"target": "opensearch", "url": node, "replicas": 0})  # fmt: skip
    try:
        done = backhaul("run", conf, "--json")
        assert done.code == 0, done.err
        with slotted_opensearch(node, slots=SLOTS, seconds=SERVICE_S) as url:
            words = [
                "--set",
                f"index.url={url}",
                "--set",
                "serve.cache.results=0",
                "--set",
                "serve.audit.path=" + str(folder / "audit"),
            ]
            with served(conf, *words) as service:
                return _measure(service, seconds)
    finally:
        delete_indices(node, "overload-")


def _measure(service: Served, seconds: float) -> Overload:
    port, found = int(service.url.rpartition(":")[2]), Overload()
    process = psutil.Process(service.process.pid)

    def load(factor: float, lasts_s: float) -> list[Answer]:
        return _settled(load_for(lasts_s + SETTLE_S, port, factor * CAN_PER_S, [QUESTION]))

    load(1.0, 1.0)  # everything is imported and opened
    found.unloaded = _spread(load(0.1, seconds / 2))
    for factor in (1.0, 1.3):
        answers = [each for each in load(factor, seconds / 3) if each.status == 200]
        if (goodput := _per_s(answers)) > found.peak_goodput:
            found.peak_goodput, found.saturated = goodput, _spread(answers)
    before_mb, busy_s = process.memory_info().rss / 1e6, sum(process.cpu_times()[:2])
    answers = load(FACTOR, seconds)
    found.cpu_share = round((sum(process.cpu_times()[:2]) - busy_s) / (seconds + SETTLE_S), 2)
    found.rss_mb = {"before": round(before_mb, 1), "after": round(process.memory_info().rss / 1e6, 1)}
    good = [each for each in answers if each.status == 200]
    refused = [each for each in answers if each.status != 200]
    found.goodput, found.accepted, found.refused = _per_s(good), _spread(good), _spread(refused)
    found.offered_per_s = _per_s(answers)
    found.statuses = dict(Counter(f"{each.status} {each.code}".strip() for each in answers))
    found.sent_late_ms = _spread_of([each.sent - each.due for each in answers])
    told = [float(each.retry_after_s or 0) for each in refused]
    found.retry_after_s = {"min": min(told), "mean": round(sum(told) / len(told), 1), "max": max(told)} if told else {}
    return found


def _settled(answers: Sequence[Answer]) -> list[Answer]:
    begin = min(each.due for each in answers) + SETTLE_S
    return [each for each in answers if each.due >= begin]


def _per_s(answers: Sequence[Answer]) -> float:
    lasted = max(each.due for each in answers) - min(each.due for each in answers)
    return round((len(answers) - 1) / lasted, 1)


def _spread(answers: Sequence[Answer]) -> dict[str, float]:
    return _spread_of([each.seconds for each in answers])


def _spread_of(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {"count": 0, "p50": math.nan, "p99": math.nan, "max": math.nan}
    ms = sorted(1000 * each for each in seconds)
    at = {"p50": ms[len(ms) // 2], "p99": ms[math.ceil(0.99 * len(ms)) - 1], "max": ms[-1]}
    return {"count": len(ms), **{name: round(value, 1) for name, value in at.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="overload-"))
    try:
        with running_node() as node:
            found = overload(folder, node.url, seconds=arguments.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures: dict[str, Any] = {
        "slots": SLOTS,
        "service_s": SERVICE_S,
        "factor": FACTOR,
        **asdict(found),
        "misses": found.misses,
    }
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('overload', figures)}")
    return 1 if found.misses else 0


if __name__ == "__main__":
    sys.exit(main())
