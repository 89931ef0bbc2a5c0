"""Release and roll back over and over while clients ask all the time: no error, no empty and no mixed answer.

One command: ``python -m tests.e2e.release_storm --cycles 200 --rate 200``. Two runs of one corpus have the same ids, and
each document says of which run it is. A cycle is a release of the newer generation and the rollback, by the verbs'
functions in this process or by two commands; the rate is that of clients that resolve the alias once, shared by
processes of their own. A few more ask the alias itself, for contrast. Exits 1 when an answer was wrong, or when the
rate was not reached, which would prove nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.release import find_generation, release_generation, rollback_corpus
from tests.e2e.command import PROJECT, backhaul, backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.release_asker import READY, Answer, K
from tests.fixtures.opensearch import delete_indices, running_node

OBJECTS, DOCUMENTS = 4, 250
OLDER, NEWER = "older", "newer"
ASKERS = 2
PLAIN = ("msearch", "searches")
CONTRAST_PER_S = 10.0  # of each plain way
RATE_KEPT = 0.98
_SETTLE_S = 0.5


@dataclass(frozen=True)
class Move:
    """``to`` went live between ``began`` and ``ended``."""

    to: str
    began: float
    ended: float


@dataclass
class Storm:
    """``wrong`` says what is wrong of the answers that must be right. Latencies count from the sending of a question,
    ``late_ms`` is how long after it was due that was. ``contrast`` is of the clients that ask the alias itself."""

    cycles: int
    rate: float
    rows: int = 0
    moves: int = 0
    answers: int = 0
    rate_reached: float = 0.0
    errors: int = 0
    empty: int = 0
    short: int = 0
    mixed: int = 0
    stale: int = 0
    by_mode: dict[str, dict[str, float]] = field(default_factory=dict)
    by_generation: dict[str, int] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    late_ms: dict[str, float] = field(default_factory=dict)
    cycle_s: dict[str, float] = field(default_factory=dict)
    command_cycle_s: dict[str, float] = field(default_factory=dict)
    contrast: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.wrong

    @property
    def kept_rate(self) -> bool:
        return self.rate_reached >= RATE_KEPT * self.rate


def release_storm(folder: Path, node: str, *, cycles: int, rate: float, commands: int = 20,
                  contrast_per_s: float = CONTRAST_PER_S) -> Storm:  # fmt: skip
    """The last ``commands`` cycles are made by processes of their own, whose start takes more of a small machine than
    all else: so they do not disturb the times of the others."""
    plain: dict[str, list[Answer]] = {}
    result, corpus = Storm(cycles, rate), f"storm-{folder.name.lower().replace('_', '-')[-20:]}"
    try:
        conf = two_generations(folder, node, corpus)
        with ExitStack() as asking:
            if contrast_per_s:
                plain = {way: asking.enter_context(_asking(conf, way, contrast_per_s)) for way in PLAIN}
            answers = asking.enter_context(_asking(conf, "live", rate, ASKERS))
            time.sleep(_SETTLE_S)
            began = time.monotonic()
            moves = _cycle(conf, result, cycles, commands)
            result.seconds = round(time.monotonic() - began, 1)
            time.sleep(_SETTLE_S)
    finally:
        delete_indices(node, corpus)
    judge(result, answers, moves)
    result.contrast = {way: _contrast(answers) for way, answers in plain.items()}
    return result


def two_generations(folder: Path, node: str, corpus: str) -> Path:
    """Both proved and released once, the older live."""
    index = {"target": "opensearch", "url": node, "replicas": 0}
    conf = write_conf(folder / "run.yaml", corpus=corpus, root=f"file://{folder}/root", source=f"file://{folder}/source",
                      partition={"target_tokens": 5_000}, index=index, engine={"workers": 0})  # fmt: skip
    for mark in (OLDER, NEWER):
        _write_run(folder / "source", mark)
        done = backhaul_here("run", conf, "--json")
        assert done.code == 0, done.err
    assert backhaul_here("rollback", conf, "--yes").code == 0
    return conf


def _write_run(folder: Path, mark: str) -> None:
    write_corpus(folder, objects=OBJECTS, documents=DOCUMENTS, seed=1 if mark == OLDER else 2)
    for path in folder.rglob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        marked = [{**row, "text": f"cargo {row['text']}", "lang": mark} for row in rows]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in marked))


@contextmanager
def _asking(conf: Path, way: str, rate: float, processes: int = 1) -> Iterator[list[Answer]]:
    """What was answered, when it is over."""
    answers: list[Answer] = []
    command = [sys.executable, "-m", "tests.e2e.release_asker", str(conf), way, "--rate", str(rate / processes)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), cwd=PROJECT,
                                text=True) for _ in range(processes)]  # fmt: skip
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == READY, f"{way}: it did not start"
        begin = time.monotonic() + 0.1
        for number, process in enumerate(running):  # in turn, evenly spaced
            assert process.stdin is not None
            process.stdin.write(f"{begin + number / rate}\n")
            process.stdin.flush()
        yield answers
        for process in running:
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0, f"{way}: it ended with {process.returncode}"
            answers += [Answer(*json.loads(line)) for line in out.splitlines()]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _cycle(conf: Path, result: Storm, cycles: int, commands: int) -> list[Move]:
    moves: list[Move] = []
    here, there = list[float](), list[float]()
    for number in range(cycles):
        by_command = number >= cycles - commands
        release, rollback = (_release_command, _rollback_command) if by_command else (release_here, rollback_here)
        moves += [_move(NEWER, release, conf), _move(OLDER, rollback, conf)]
        (there if by_command else here).append(moves[-1].ended - moves[-2].began)
    result.moves = len(moves)
    result.cycle_s, result.command_cycle_s = _spread(here, digits=3), _spread(there, digits=3)
    return moves


def _move(to: str, how: Callable[[Path], None], conf: Path) -> Move:
    began = time.monotonic()
    how(conf)
    return Move(to, began, time.monotonic())


def release_here(conf: Path) -> None:
    session = Session(load_settings(conf, []), quiet=True)
    done = release_generation(session, find_generation(session, run_id=None, name=None), force=False)
    assert done["changed"], done


def rollback_here(conf: Path) -> None:
    done = rollback_corpus(Session(load_settings(conf, []), quiet=True), None)
    assert done["changed"], done


def _release_command(conf: Path) -> None:
    done = backhaul("release", conf, "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["changed"], done.json


def _rollback_command(conf: Path) -> None:
    done = backhaul("rollback", conf, "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["changed"], done.json


def judge(result: Storm, answers: list[Answer], moves: Sequence[Move]) -> None:
    """Of each answer: it came, it is whole, and of one generation, which was live while it was asked."""
    good = [answer for answer in answers if not answer.error]
    ends = [move.ended for move in moves]
    wrong = {
        "errors": [answer for answer in answers if answer.error],
        "empty": [answer for answer in good if answer.hits == 0],
        "short": [answer for answer in good if 0 < answer.hits < K],
        "mixed": [answer for answer in good if len(answer.marks) > 1],
        "stale": [answer for answer in good if not set(answer.marks) <= _live_during(answer, moves, ends)],
    }
    for what, found in wrong.items():
        setattr(result, what, len(found))
        result.wrong += [f"{what}: {answer}" for answer in found[:3]]
    result.rows = OBJECTS * DOCUMENTS
    result.answers = len(answers)
    if len(answers) > 1:
        asked_s = max(answer.sent for answer in answers) - min(answer.due for answer in answers)
        result.rate_reached = round((len(answers) - 1) / asked_s, 1)
    result.by_generation = dict(Counter("+".join(answer.marks) or "none" for answer in good))
    for mode in sorted({answer.mode for answer in good}):
        result.by_mode[mode] = _spread([1000 * (a.answered - a.sent) for a in good if a.mode == mode], digits=1)
    result.latency_ms = _spread([1000 * (answer.answered - answer.sent) for answer in good], digits=1)
    result.late_ms = _spread([1000 * (answer.sent - answer.due) for answer in answers], digits=1)


def _live_during(answer: Answer, moves: Sequence[Move], ends: Sequence[float]) -> set[str]:
    """Marks of what may have been live at some time between sending and answering."""
    first = bisect_left(ends, answer.sent)  # the moves before it were over
    found = {moves[first - 1].to if first else OLDER}
    for move in moves[first:]:
        if move.began > answer.answered:
            break
        found.add(move.to)
    return found


def _contrast(answers: list[Answer]) -> dict[str, int]:
    errors = sum(bool(answer.error) for answer in answers)
    return {"answers": len(answers), "errors": errors, "mixed": sum(len(answer.marks) > 1 for answer in answers)}


def _spread(values: list[float], *, digits: int) -> dict[str, float]:
    if not values:
        return {}
    in_order = sorted(values)
    p99 = in_order[math.ceil(0.99 * len(in_order)) - 1]
    named = {"p50": statistics.median(in_order), "p99": p99, "max": in_order[-1]}
    return {"count": len(in_order), **{name: round(value, digits) for name, value in named.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--commands", type=int, default=20, help="cycles made by two commands each")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    try:
        with running_node() as node:
            result = release_storm(folder, node.url, cycles=arguments.cycles, rate=arguments.rate,
                                   commands=arguments.commands)  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**asdict(result), "sound": result.sound, "kept_rate": result.kept_rate}, indent=1))
    return 0 if result.sound and result.kept_rate else 1


if __name__ == "__main__":
    sys.exit(main())
