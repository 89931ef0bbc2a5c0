"""Rolling restarts, releases and rollbacks of the service under load: no request fails, mixes generations or is stale.

One command: ``python -m tests.service.rolling --rounds 50 --rate 60``. Two service processes behind a small load balancer,
before a real OpenSearch node; a round releases the newer generation, restarts one of the processes (SIGTERM, exit code 0,
started anew, ready) and rolls back while that is going on. Writes results/rolling.json. Exits 1 when an answer was wrong.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.machine import write_results
from tests.e2e.release_storm import NEWER, OLDER, Move, release_here, rollback_here, two_generations
from tests.fixtures.opensearch import delete_indices, running_node
from tests.service.balancer import balancing
from tests.service.load import Answer, loaded
from tests.service.served import free_port, served

K = 10
FOLLOW_S, DEREGISTRATION_S = 0.3, 1.0
MARGIN_S = 0.5  # for the look itself, and for asking the new generation what was asked most
BUSY_MARGIN_S = 11.0  # on a busy machine: as long as that asking may take
_TEXTS = [f"cargo {first} {second}" for first in ("alba", "bocent", "dofel", "grapol")
          for second in ("credor", "luras", "merlim")]  # fmt: skip
QUESTIONS = [{"query": text, "mode": mode, "k": K} for text in _TEXTS for mode in ("lexical", "vector", "hybrid")]


@dataclass
class Rolling:
    """``lag_s``: how long ago the generation of an answer had ceased to be live when the request was sent."""

    rounds: int
    rate: float
    margin_s: float = MARGIN_S
    restarts: int = 0
    exit_codes: dict[str, int] = field(default_factory=dict)
    releases: int = 0
    rollbacks: int = 0
    answers: int = 0
    by_generation: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    mixed: int = 0
    short: int = 0
    stale: int = 0
    lag_s: dict[str, float] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    end_s: dict[str, float] = field(default_factory=dict)
    start_s: dict[str, float] = field(default_factory=dict)
    by_backend: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.wrong and set(self.exit_codes) == {"0"}


class Process:
    """``backhaul serve`` on a port of its own, started again and again."""

    def __init__(self, conf: Path) -> None:
        self.port = free_port()
        self._conf = conf
        self._open = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds until it was ready."""
        began = time.monotonic()
        words = [f"serve.follow_s={FOLLOW_S}", f"serve.deregistration_s={DEREGISTRATION_S}",
                 f"serve.audit.path={self._conf.with_suffix('.audit')}"]  # fmt: skip
        started = served(self._conf, *(word for each in words for word in ("--set", each)), port=self.port)
        self._process = self._open.enter_context(started).process
        return time.monotonic() - began

    def end(self) -> tuple[int, float]:
        """Exit code, and the seconds that it took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._open.close()
        return code, time.monotonic() - began

    def close(self) -> None:
        self._open.close()


def rolling(folder: Path, node: str, *, rounds: int, rate: float, margin_s: float = MARGIN_S) -> Rolling:
    result, corpus = Rolling(rounds, rate, margin_s), f"rolling-{folder.name.lower().replace('_', '-')[-16:]}"
    try:
        conf = two_generations(folder, node, corpus)
        with _processes(conf) as processes, balancing([each.port for each in processes]) as balancer:
            time.sleep(1.0)  # it has seen that they are ready
            with loaded(balancer.port, rate, QUESTIONS, marks=True) as answers:
                time.sleep(1.0)
                began = time.monotonic()
                moves = _roll(conf, processes, result)
                result.seconds = round(time.monotonic() - began, 1)
                time.sleep(1.0)
        result.by_backend = balancer.backends
    finally:
        delete_indices(node, corpus)
    judge(result, answers, moves)
    return result


@contextmanager
def _processes(conf: Path) -> Iterator[list[Process]]:
    processes = [Process(conf), Process(conf)]
    try:
        starting = [threading.Thread(target=each.start) for each in processes]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        yield processes
    finally:
        for each in processes:
            each.close()


def _roll(conf: Path, processes: Sequence[Process], result: Rolling) -> list[Move]:
    moves: list[Move] = []
    ends, starts, codes = list[float](), list[float](), Counter[str]()
    for number in range(result.rounds):
        moves.append(_move(NEWER, conf))
        process = processes[number % len(processes)]
        code, seconds = process.end()
        codes[str(code)] += 1
        ends.append(seconds)
        starting = threading.Thread(target=lambda process=process: starts.append(process.start()))  # type: ignore[misc]
        starting.start()
        time.sleep(0.5)
        moves.append(_move(OLDER, conf))
        starting.join()
        time.sleep(0.5)  # the balancer sees that it is ready
    result.restarts, result.releases, result.rollbacks = len(starts), result.rounds, result.rounds
    result.exit_codes, result.end_s, result.start_s = dict(codes), _spread(ends), _spread(starts)
    return moves


def _move(to: str, conf: Path) -> Move:
    began = time.monotonic()
    (release_here if to == NEWER else rollback_here)(conf)
    return Move(to, began, time.monotonic())


def judge(result: Rolling, answers: Sequence[Answer], moves: Sequence[Move]) -> None:
    """Of each answer: it came, it is whole, of one generation, and that was live not long before it was asked for."""
    good = [each for each in answers if each.status == 200]
    marks = {each.generation: each.marks for each in good if len(each.marks) == 1}
    lags = [_lag_s(each, moves) for each in good if len(each.marks) == 1]
    wrong: dict[str, list[Answer]] = {
        "failed": [each for each in answers if each.status != 200],
        "mixed": [each for each in good if each.marks != marks.get(each.generation)],
        "short": [each for each in good if each.hits != K],
        "stale": [each for each in good if len(each.marks) == 1 and _lag_s(each, moves) > FOLLOW_S + result.margin_s],
    }
    result.answers = len(answers)
    result.failed = dict(Counter(f"{each.status} {each.code}" for each in wrong["failed"]))
    result.mixed, result.short, result.stale = len(wrong["mixed"]), len(wrong["short"]), len(wrong["stale"])
    for what, found in wrong.items():
        result.wrong += [f"{what}: {each}" for each in found[:3]]
    result.by_generation = dict(Counter("+".join(each.marks) for each in good))
    result.latency_ms = _spread([1000 * each.seconds for each in good], digits=1)
    result.lag_s = _spread(lags)


def _lag_s(answer: Answer, moves: Sequence[Move]) -> float:
    """0: its generation may have been live while it was asked; infinite: it had not been live at all yet."""
    (mark,) = answer.marks
    began = [-math.inf, *(move.began for move in moves)]
    ended = [*(move.ended for move in moves), math.inf]
    live = [OLDER, *(move.to for move in moves)]
    spans = [(a, b) for a, b, name in zip(began, ended, live, strict=True) if name == mark and a <= answer.answered]
    return max(0.0, answer.sent - max(end for _, end in spans)) if spans else math.inf


def _spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    if not values:
        return {}
    found = sorted(values)
    named = {"p50": found[len(found) // 2], "p99": found[math.ceil(0.99 * len(found)) - 1], "max": found[-1]}
    return {"count": len(found), **{name: round(value, digits) for name, value in named.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rate", type=float, default=60.0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rolling-"))
    try:
        with running_node() as node:
            result = rolling(folder, node.url, rounds=arguments.rounds, rate=arguments.rate)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures: dict[str, Any] = {**asdict(result), "sound": result.sound}
    print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    print(f"written to {write_results('rolling', figures)}")
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
