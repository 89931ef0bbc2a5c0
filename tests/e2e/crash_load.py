"""Kill load, run, verify, release and rollback at seeded moments of every stage; one resume must make it all good.

One command: ``python -m tests.e2e.crash_load --seed 1 --moments 50``. A moment is a request that the proxy before the node
holds for the kill (seven of ten), or some milliseconds after the n-th request. After each, the same command once more: the
index holds exactly the manifest's rows, its profile is restored, and the alias has named one complete generation all the
time. Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from jobs.session import Session
from jobs.settings import load_settings
from tests.e2e.alias_watch import AliasWatch
from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.exact import differences
from tests.e2e.moments import ASKED, ASKED_AGAIN, Executioner, Moment, Stage, kill_at
from tests.fixtures.faulty_opensearch import faulty_opensearch
from tests.fixtures.opensearch import delete_indices, running_node

OBJECTS, DOCUMENTS = 4, 60
_STAGES: list[Stage] = ["load", "merge", "restore", "release", "rollback", "verify"]
_VERBS: dict[Stage, list[str]] = {
    "load": ["load", "load again", "run"],
    "merge": ["load", "load again", "run"],
    "restore": ["load", "load again", "run"],
    "verify": ["verify", "run"],
    "release": ["release", "run"],
    "rollback": ["rollback", "rollback to"],
}
_SHARE_AT_A_REQUEST = 0.7
_JITTER_S = 0.2
_KEPT = 4  # generations, for rollbacks
_HERE = ["--set", "engine.workers=0"]


@dataclass
class Storm:
    """``missed``: commands that had ended before their moment; not among the ``moments``."""

    seed: int
    moments: int = 0
    by_stage: Counter[str] = field(default_factory=Counter)
    by_verb: Counter[str] = field(default_factory=Counter)
    by_victim: Counter[str] = field(default_factory=Counter)
    at_a_request: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    looks_at_the_alias: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.wrong


@dataclass(frozen=True)
class _Command:
    """``generation`` is what it loads, proves or makes live; ``sets`` make that generation."""

    words: list[str | Path]
    sets: list[str]
    generation: str

    @property
    def verb(self) -> str:
        return str(self.words[0])


class _Corpus:
    """One embedded run, of which any number of generations can be made; released ones stay for rollbacks."""

    def __init__(self, folder: Path, proxy: str, corpus: str, seed: int) -> None:
        source = write_corpus(folder / "source", objects=OBJECTS, documents=DOCUMENTS, seed=seed)
        index = {"target": "opensearch", "url": proxy, "replicas": 0}
        self.conf = write_conf(folder / "run.yaml", corpus=corpus, root=f"file://{folder}/root", source=f"file://{source}",
                               partition={"target_tokens": 2_000}, embed={"dimensions": 16, "rows_per_part": 32}, index=index,
                               engine={"workers": 2, "max_attempts": 10})  # fmt: skip
        self._root = folder / "root"
        self._number = 0
        self.released: dict[str, list[str]] = {}  # generation → its sets, in the order of their release
        self.must("embed", [])
        self.session = self.open([])
        self.plan = self.session.plan()

    def open(self, sets: list[str]) -> Session:
        return Session(load_settings(self.conf, sets), quiet=True)

    def new(self) -> tuple[str, list[str]]:
        self._number += 1
        sets = [f"index.ef_construction={64 + self._number}"]
        return self.open(sets).generation_name(self.plan.run_id), sets

    def must(self, verb: str, sets: list[str], *more: str) -> None:
        outcome = backhaul_here(verb, self.conf, *_words(sets), *_HERE, *more)
        assert outcome.code == 0, outcome.err

    def release_new(self) -> None:
        name, sets = self.new()
        self.must("run", sets)
        self.released[name] = sets

    def forget_a_receipt(self, name: str, chance: random.Random) -> None:
        """As a command that gives refused rows another chance: one partition of a finished generation is to be loaded."""
        (folder,) = self._root.glob(f"runs/*/loads/{name}/*")
        chance.choice(sorted(folder.glob("*.json"))).unlink()

    def command(self, kind: str, chance: random.Random) -> _Command:
        """What is to be killed, with all that has to be before it."""
        verb, *_ = kind.split()
        if verb == "rollback":
            while len(self.released) < 2:
                self.release_new()
            former = list(self.released)[-2]
            more = ["--generation", former] if kind == "rollback to" else []
            return _Command([verb, self.conf, "--yes", *more], self.released[former], former)
        if kind == "load again":
            if not self.released:
                self.release_new()
            name = list(self.released)[-1]
            self.forget_a_receipt(name, chance)
            return self._command(verb, name, self.released[name])
        name, sets = self.new()
        for needed in {"verify": ["load"], "release": ["load", "verify"]}.get(verb, []):
            self.must(needed, sets)
        return self._command(verb, name, sets)

    def _command(self, verb: str, name: str, sets: list[str]) -> _Command:
        return _Command([verb, self.conf, *_words(sets), *(["--yes"] if verb == "release" else [])], sets, name)

    def tidy(self) -> None:
        """Only the newest releases stay."""
        while len(self.released) > _KEPT:
            del self.released[next(iter(self.released))]
        for found in self.session.target.generations(self.session.settings.corpus):
            if found.name not in self.released:
                self.session.target.drop(found.name)


def _words(sets: list[str]) -> list[str]:
    return [word for text in sets for word in ("--set", text)]


def storm(folder: Path, node: str, *, seed: int, moments: int) -> Storm:
    """``moments`` kills, each with its resume and its proof. Stops at the first that is wrong."""
    began, result, executioner = time.monotonic(), Storm(seed), Executioner()
    name = f"storm{seed}-{folder.name.lower().replace('_', '-')[-20:]}"
    with faulty_opensearch(node, executioner) as proxy:
        corpus = _Corpus(folder, proxy, name, seed)
        try:
            with AliasWatch(node, name, OBJECTS * DOCUMENTS).watching() as watch:
                corpus.release_new()
                number = 0
                while result.moments < moments and not result.wrong:
                    _one(corpus, executioner, node, result, random.Random(f"{seed}-{number}"), _STAGES[number % 6])
                    result.wrong += watch.wrong
                    number += 1
                    assert result.missed <= moments, result
                result.looks_at_the_alias = watch.looks
        finally:
            delete_indices(node, name)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _one(corpus: _Corpus, executioner: Executioner, node: str, result: Storm, chance: random.Random,
         stage: Stage) -> None:  # fmt: skip
    kind = chance.choice(_VERBS[stage])
    moment = _draw(kind, stage, chance)
    command = corpus.command(kind, chance)
    killed = kill_at(executioner, moment, command.words, chance)
    what = f"{kind} killed in {killed.stage} at {moment}"
    if killed.stage is None and killed.code == 0:
        result.missed += 1
    else:
        result.moments += 1
        result.by_stage[killed.stage or stage] += 1
        result.by_verb[kind] += 1
        result.by_victim[moment.victim] += 1
        result.at_a_request[moment.when if moment.asked else "no"] += 1
        if killed.code:
            result.wrong.append(f"{what}: it failed with {killed.code}: {killed.err}")
    result.wrong += [f"{what}: {wrong}" for wrong in _resume(corpus, command, node)]
    corpus.tidy()


def _draw(kind: str, stage: Stage, chance: random.Random) -> Moment:
    victim = chance.choices(["group", "driver", "worker"], [5, 3, 2])[0]
    if victim == "worker" and stage not in ("load", "verify"):
        victim = "group"  # where no worker is
    if chance.random() > _SHARE_AT_A_REQUEST:
        most = {"load": 60, "load again": 40, "run": 90, "verify": 40}.get(kind, 8)
        return Moment(None, chance.randint(1, most), "answered", victim, chance.uniform(0, _JITTER_S))
    asked = chance.choice(ASKED_AGAIN if (stage, kind) == ("load", "load again") else ASKED[stage])
    return Moment(asked, chance.randint(1, asked.times), chance.choice(["unseen", "orphaned", "answered"]), victim)


def _resume(corpus: _Corpus, command: _Command, node: str) -> list[str]:
    """The same command once more, and all that is wrong then."""
    target, log, name = corpus.session.target, corpus.session.log, corpus.session.settings.corpus
    newest = log.newest(target.id)
    done = "--generation" not in command.words and newest is not None and newest.generation == command.generation
    if not (command.verb == "rollback" and done):  # one that was done would go further back
        outcome = backhaul_here(*command.words, *(_HERE if command.verb != "rollback" else []))
        if outcome.code != 0:
            return [f"the resume failed with {outcome.code}: {outcome.err}"]
    wrong = differences(corpus.open(command.sets), corpus.plan.run_id, command.generation, node)
    if command.verb in ("run", "release"):
        corpus.released.pop(command.generation, None)
        corpus.released[command.generation] = command.sets
    if command.verb == "rollback":
        corpus.released.pop(list(corpus.released)[-1])
    wanted, newest = list(corpus.released)[-1], log.newest(target.id)
    if (live := target.live(name)) != wanted:
        wrong.append(f"{live} is live, not {wanted}")
    if newest is None or newest.generation != wanted:
        wrong.append(f"the newest record of a release is {newest}, not of {wanted}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--moments", type=int, default=50)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="moments-"))
    try:
        with running_node() as node:
            result = storm(folder, node.url, seed=arguments.seed, moments=arguments.moments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**vars(result), "sound": result.sound}, indent=1))
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
