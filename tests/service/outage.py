"""What clients of the service meet while its index is slow, hangs, dies and comes back: figures of the real process.

One command: ``python -m tests.service.outage``. ``backhaul serve`` before a real OpenSearch node, asked all the time, and
its circuit breaker watched in its metrics. The node is made slow by a proxy, frozen (SIGSTOP), thawed, killed (SIGKILL) and
started again. Writes results/outage.json. Exits 1 when a figure misses what is promised.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.machine import write_results
from tests.e2e.command import backhaul
from tests.fixtures.faulty_opensearch import Act, Forward, Request, faulty_opensearch
from tests.fixtures.opensearch import Node, delete_indices, running_node
from tests.service.load import NUMBER, Answer, loaded
from tests.service.served import Served, served, tenants_conf

PER_S = 50.0
OVERSHOOT_S, OPENS_S, CLOSES_S, ENDS_S = 0.1, 2.0, 5.0, 3.0
QUESTION = {"query": f"wagons in the steam yard {NUMBER}", "mode": "lexical", "k": 10}
_LOOKS_PER_S = 20
_SETTLE_S = 1.0
_WARM_S = 1.0  # after the circuit has closed: a node that was started anew answers its first searches slowly


@dataclass
class Outage:
    """``opened_s`` counts from its beginning, ``closed_s`` from when the index answered again. Latencies are those of
    requests sent meanwhile, in ms; ``overshoot_ms`` is how much later than the deadline the latest was answered."""

    kind: str
    opened_s: float = math.inf
    closed_s: float = math.inf
    statuses: dict[str, int] = field(default_factory=dict)
    statuses_before: dict[str, int] = field(default_factory=dict)
    statuses_after: dict[str, int] = field(default_factory=dict)
    refused_after_it_closed: int = 0
    limits: dict[str, list[int]] = field(default_factory=dict)
    open_ms: dict[str, float] = field(default_factory=dict)
    overshoot_ms: float = 0.0

    @property
    def misses(self) -> list[str]:
        return [f"{self.kind}: {what}" for what, kept in {
            f"the circuit opens in {OPENS_S:g} s": self.opened_s <= OPENS_S,
            f"it closes in {CLOSES_S:g} s": self.closed_s <= CLOSES_S,
            f"the deadline is kept by {OVERSHOOT_S:g} s": self.overshoot_ms <= OVERSHOOT_S * 1000,
            "before and after every request is answered": {*self.statuses_before, *self.statuses_after} == {"200"},
            "meanwhile requests are refused as they should": set(self.statuses) <= {
                "200", "503 unavailable", "503 overloaded", "504 deadline"},
        }.items() if not kept]  # fmt: skip


class Circuit:
    """Whether the service's circuit is open, and its limit, looked at again and again."""

    def __init__(self, service: Served) -> None:
        self._url = f"{service.url}/metrics"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.changes: list[tuple[float, bool]] = [(time.monotonic(), False)]
        self.limits: list[tuple[float, int]] = []

    def __enter__(self) -> Circuit:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def when(self, is_open: bool, after: float) -> float:
        return next((at for at, found in self.changes if at >= after and found is is_open), math.inf)

    def wait_until(self, is_open: bool, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while self.changes[-1][1] is not is_open and time.monotonic() < deadline:
            time.sleep(0.02)

    def _watch(self) -> None:
        while not self._over.wait(1 / _LOOKS_PER_S):
            with urllib.request.urlopen(self._url, timeout=5) as answer:
                text = answer.read().decode()
            found = "\nbackhaul_circuit_open 0.0" not in text
            limit = text.partition("\nbackhaul_in_flight_limit ")[2].split("\n", 1)[0]
            self.limits.append((time.monotonic(), int(float(limit))))
            if found is not self.changes[-1][1]:
                self.changes.append((time.monotonic(), found))


@contextmanager
def asked(conf: Path, url: str, deadline_s: float, folder: Path) -> Iterator[tuple[Served, Circuit, list[Answer]]]:
    words = [f"index.url={url}", "serve.cache.results=0", f"serve.limits.deadline_s={deadline_s}",
             f"serve.audit.path={folder / 'audit'}", "serve.deregistration_s=0"]  # fmt: skip
    with (
        served(conf, *(word for each in words for word in ("--set", each))) as service,
        Circuit(service) as circuit,
        loaded(int(service.url.rpartition(":")[2]), PER_S, [QUESTION]) as answers,
    ):
        time.sleep(1.5)
        yield service, circuit, answers
        time.sleep(1.0)


def one_outage(
    kind: str, begin: Callable[[], None], end: Callable[[], None], lasts_s: float, circuit: Circuit
) -> tuple[Outage, float, float]:
    """The outage without its answers, and when it began and was over. ``end`` returns when the index answers again."""
    began = time.monotonic()
    begin()
    time.sleep(lasts_s)
    end()
    over = time.monotonic()
    circuit.wait_until(False, CLOSES_S + 1)
    time.sleep(_WARM_S + 1.5)
    found = Outage(kind, circuit.when(True, began) - began, max(0.0, circuit.when(False, over - 0.5) - over))
    return found, began, over


def judge(
    found: Outage, answers: Sequence[Answer], began: float, over: float, circuit: Circuit, deadline_s: float
) -> None:
    """Requests that were sent a deadline before the outage may have met it."""
    opened, closed = circuit.when(True, began), circuit.when(False, over - 0.5)
    first = min(each.due for each in answers) + _SETTLE_S
    found.statuses_before = _statuses([each for each in answers if each.sent > first and each.answered < began])
    found.statuses = _statuses([each for each in answers if each.answered >= began and each.sent <= closed])
    found.statuses_after = _statuses([each for each in answers if each.sent > closed + _WARM_S])
    found.refused_after_it_closed = sum(
        closed < each.sent <= closed + _WARM_S and each.status != 200 for each in answers
    )
    found.overshoot_ms = round(1000 * max(each.answered - each.sent - deadline_s for each in answers), 1)
    found.limits = {
        "before": [limit for at, limit in circuit.limits if at < began][-1:],
        "meanwhile": [limit for at, limit in circuit.limits if began <= at < over][-1:],
        "after": [limit for at, limit in circuit.limits if at >= closed][::5],
    }
    while_open = sorted(
        each.answered - each.sent for each in answers
        if each.sent >= opened and each.sent < over and each.code == "unavailable"
    )  # fmt: skip
    if while_open:
        found.open_ms = {"count": len(while_open), "p50": round(1000 * while_open[len(while_open) // 2], 1),
                         "max": round(1000 * while_open[-1], 1)}  # fmt: skip


def _statuses(answers: Sequence[Answer]) -> dict[str, int]:
    return dict(Counter(f"{each.status} {each.code}".strip() for each in answers))


class Slowness:
    """A rule of the proxy: while ``on``, searches take ``delay_s`` more."""

    def __init__(self, delay_s: float) -> None:
        self.on, self._delay_s = False, delay_s

    def __call__(self, request: Request) -> Act | None:
        return Forward(delay_s=self._delay_s) if self.on and "_msearch" in request.path else None


def slow(folder: Path, conf: Path, node: Node, *, deadline_s: float, lasts_s: float) -> Outage:
    slowness = Slowness(deadline_s * 2)
    with faulty_opensearch(node.url, slowness) as url:
        with asked(conf, url, deadline_s, folder) as (_, circuit, answers):
            found, began, over = one_outage(
                "slow", lambda: setattr(slowness, "on", True), lambda: setattr(slowness, "on", False), lasts_s, circuit
            )
        judge(found, answers, began, over, circuit, deadline_s)
    return found


def hanging(folder: Path, conf: Path, node: Node, *, deadline_s: float, lasts_s: float) -> Outage:
    with asked(conf, node.url, deadline_s, folder) as (_, circuit, answers):
        try:
            found, began, over = one_outage("hanging", node.freeze, node.thaw, lasts_s, circuit)
        finally:
            node.thaw()
    judge(found, answers, began, over, circuit, deadline_s)
    return found


def dead(folder: Path, conf: Path, node: Node, *, deadline_s: float, lasts_s: float) -> Outage:
    def start() -> None:
        starting = threading.Thread(target=node.start)
        starting.start()
        _until_it_answers(node)
        starting.join()

    with asked(conf, node.url, deadline_s, folder) as (_, circuit, answers):
        found, began, over = one_outage("dead", node.kill, start, lasts_s, circuit)
    judge(found, answers, began, over, circuit, deadline_s)
    return found


def end_while_hanging(folder: Path, conf: Path, node: Node, *, deadline_s: float) -> float:
    """Seconds from SIGTERM to exit code 0, with requests under way and the index hanging."""
    with asked(conf, node.url, deadline_s, folder) as (service, circuit, _):
        node.freeze()
        try:
            circuit.wait_until(True, 5.0)
            time.sleep(1.5)  # whatever else asks the index hangs as well
            circuit.stop()
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(90) == 0
            return round(time.monotonic() - began, 2)
        finally:
            node.thaw()


def _until_it_answers(node: Node) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(
                f"{node.url}/outage*/_search?size=1&allow_partial_search_results=false", timeout=1
            ).close()
            return
        time.sleep(0.05)


def indexed(folder: Path, node: Node) -> Path:
    conf = tenants_conf(folder, corpus=f"outage-{folder.name.lower().replace('_', '-')[-12:]}",
                        index={"target": "opensearch", "url": node.url, "replicas": 0})  # fmt: skip
    done = backhaul("run", conf, "--json")
    assert done.code == 0, done.err
    return conf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=8.0, help="that each outage lasts")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="outage-"))
    try:
        with running_node() as node:
            conf = indexed(folder, node)
            found = [
                each(folder, conf, node, deadline_s=arguments.deadline, lasts_s=arguments.seconds)
                for each in (slow, hanging, dead)
            ]
            ends_s = end_while_hanging(folder, conf, node, deadline_s=arguments.deadline)
            delete_indices(node.url, "outage-")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    misses = [miss for each in found for miss in each.misses]
    if ends_s > arguments.deadline + ENDS_S:
        misses.append(f"it ends in {ENDS_S:g} s beyond the deadline while the index hangs")
    figures: dict[str, Any] = {"deadline_s": arguments.deadline, "asked_per_s": PER_S, "lasts_s": arguments.seconds,
                               "outages": [asdict(each) for each in found], "ends_while_hanging_s": ends_s, "misses": misses}  # fmt: skip
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('outage', figures)}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
