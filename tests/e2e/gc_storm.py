"""Releases of a changing corpus whose manifests name parts of earlier runs, and all that leaves something behind; `gc` now
and then, killed or not. In the end what is left is compared with what a reader can reach.

One command: ``python -m tests.e2e.gc_storm --seed 1 [--releases 20] [--target opensearch]``. Exits 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.embed import embed_run
from jobs.verbs.plan import plan_corpus
from pipelines.closed import MARK
from pipelines.digest import digest_bytes
from pipelines.load import must_read_manifest
from pipelines.manifest import Entry, create_manifest
from tests.e2e.command import COMMAND, PROJECT, Outcome, backhaul_here, environment
from tests.e2e.corpora import write_conf
from tests.fixtures.opensearch import delete_indices, running_node

KINDS, STILL, DOCUMENTS = 8, 5, 12
KEEP = 2
SLOW_S = 0.25  # a part of the run that is resumed while gc looks
OLD_S = 3600.0
_STILL = "still"
_OF_RESUMED = ("embed.rows_per_part=4", f"source.include=['{_STILL}*/**']", "source.exclude=[]")


@dataclass
class Result:
    """``wrong`` is empty where all is as it must be."""

    seed: int
    releases: int = 0
    carried: int = 0  # partitions whose parts are those of an earlier run
    left_behind: Counter[str] = field(default_factory=Counter)
    collections: int = 0
    kills: int = 0
    objects_deleted_at_last: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Corpus:
    """What was released is remembered here as a stack that rollbacks shorten, apart from Backhaul's own records."""

    def __init__(self, folder: Path, name: str, index: dict[str, Any], chance: random.Random) -> None:
        self.source, self.root, self.chance = folder / "source", folder / "root", chance
        self.conf = write_conf(
            folder / "run.yaml", corpus=name, root=f"file://{self.root}", source=f"file://{self.source}",
            partition={"path": "{doc_type}/*", "by": ["doc_type"]}, embed={"dimensions": 16, "rows_per_part": 5},
            index={**index, "keep_releases": KEEP}, engine={"workers": 0}, gc={"grace_s": 0, "idle_s": 0})  # fmt: skip
        value = yaml.safe_load(self.conf.read_text())
        value["source"]["exclude"] = [f"{_STILL}*/**"]
        self.conf.write_text(yaml.safe_dump(value))
        self.kinds = list(range(KINDS))
        self.version = 0
        self.path: list[str] = []
        self.lately: list[str] = []
        self.dropped: set[str] = set()
        self.last: dict[str, Entry] = {}
        self.resumed = ""
        self.result = Result(0)
        for kind in self.kinds:
            self._write(f"k{kind}")
        for number in range(STILL):
            self._write(f"{_STILL}{number}")

    def change(self) -> None:
        """Some objects are altered, perhaps one is added and one removed."""
        for kind in self.chance.sample(self.kinds, self.chance.randint(1, 2)):
            self._write(f"k{kind}")
        if self.chance.random() < 0.3:
            self.kinds.append(max(self.kinds) + 1)
            self._write(f"k{self.kinds[-1]}")
        if self.chance.random() < 0.3 and len(self.kinds) > 4:
            shutil.rmtree(self.source / f"k{self.kinds.pop(self.chance.randrange(len(self.kinds)))}")

    def _write(self, kind: str) -> None:
        self.version += 1
        rows = [{"id": f"{kind}-{number}", "title": f"title {self.version}", "text": f"words {self.version} {number}",
                 "kind": kind, "rank": number, "lang": "en"} for number in range(DOCUMENTS)]  # fmt: skip
        path = self.source / kind / "a.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def session(self, *sets: str) -> Session:
        return Session(load_settings(self.conf, sets), quiet=True)

    def must(self, verb: str, *words: str) -> Outcome:
        outcome = backhaul_here(verb, self.conf, *words)
        assert outcome.code == 0, (verb, words, outcome.err)
        return outcome

    def release(self) -> None:
        self.must("embed", "--replan")
        self._carry_over()
        self.must("load")
        self.must("verify")
        self._is_live(self.must("release", "--yes", "--json").json["generation"])
        self.result.releases += 1

    def _carry_over(self) -> None:
        """As a plan that embeds only what changed: the manifest names the parts of unchanged partitions where they lie,
        which is in the run that made them, and the run itself has none of them."""
        session = self.session()
        run_id = session.plan().run_id
        manifest = must_read_manifest(session.store, run_id)
        entries = []
        for entry in manifest.entries:
            before = self.last.get(entry.partition)
            if before and before.run_id != run_id and entry.run_id == run_id:
                assert before.parts == entry.parts
                shutil.rmtree(self.root / "runs" / run_id / "parts" / entry.partition)
                self.result.carried += 1
                entry = before
            entries.append(entry)
        self.last = {entry.partition: entry for entry in entries}
        (self.root / "runs" / run_id / "manifest.json").unlink()
        create_manifest(session.store, replace(manifest, entries=tuple(entries)))

    def rollback(self) -> None:
        live = self.must("rollback", "--yes", "--json").json["generation"]
        self.path.pop()
        assert live == self.path.pop(), (live, self.path)
        self._is_live(live)

    def _is_live(self, name: str) -> None:
        if name in self.path:
            del self.path[self.path.index(name) :]
        self.path.append(name)
        self.lately = [name, *(other for other in self.lately if other != name)]

    def kept(self) -> set[str]:
        """The live one, what ``KEEP`` rollbacks lead to, and the last ``KEEP`` others; of those that are there."""
        there = {found.name for found in self.session().target.generations(self.session().settings.corpus)}
        before = [name for name in reversed(self.path[:-1]) if name in there][:KEEP]
        others = [name for name in self.lately[1:] if name in there][:KEEP]
        return {self.path[-1], *before, *others}

    # What leaves something behind:

    def abandoned_plan(self) -> None:
        session = self.session(f"embed.rows_per_part={self.chance.randint(6, 11)}")
        plan = plan_corpus(session).plan
        embed_run(session, plan, only=set(list(plan.partitions.ids)[:2]))

    def complete_but_never_loaded(self) -> None:
        self.must("embed", "--set", f"embed.rows_per_part={self.chance.randint(12, 19)}")

    def planning_broken_off(self) -> None:
        folder = self.root / "runs" / self.chance.randbytes(16).hex()
        folder.mkdir()
        (folder / "objects.parquet").write_bytes(b"half a plan")

    def losing_part(self) -> None:
        """Of another attempt, in a run that is complete."""
        run_id = self.session().plan().run_id
        part = self.chance.choice(sorted((self.root / "runs" / run_id / "parts").glob("*/*.parquet")))
        data = part.read_bytes() + bytes([self.chance.randrange(256)])
        part.with_name(f"{part.name.partition('-')[0]}-{digest_bytes(data)}.parquet").write_bytes(data)

    def never_released(self) -> None:
        self.must("load", "--set", f"index.ef_construction={self.chance.randint(200, 400)}")

    def dropped_by_hand(self) -> None:
        name = self.must("load", "--json", "--set", f"index.ef_construction={self.chance.randint(500, 900)}").json[
            "generation"
        ]
        self.must("drop", "--generation", name, "--yes")

    def dropped_and_killed_before_its_records_went(self) -> None:
        sets = f"index.ef_construction={self.chance.randint(1000, 1900)}"
        name = self.must("load", "--json", "--set", sets).json["generation"]
        target = self.session().target
        found = target.find(name)
        assert found
        mark = self.root / "runs" / found.meta.run_id / "loads" / name / found.uuid / "dropped" / "mark.json"
        mark.parent.mkdir(parents=True)
        mark.write_bytes(b"{}")
        target.drop(name)

    def gc(self) -> None:
        self.age()
        self.must("gc", "--yes")
        self.result.collections += 1

    def gc_killed(self) -> None:
        self.age()
        process = subprocess.Popen([*COMMAND, "gc", str(self.conf), "--yes"], env=environment(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            process.wait(self.chance.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.result.kills += 1

    def age(self) -> None:
        """As if everything had been written an hour ago, but the run that is resumed now."""
        now = time.time()
        for path in self.root.glob("runs/**/*"):
            at = now if path.parts[len(self.root.parts) + 1] == self.resumed else now - OLD_S
            with suppress(FileNotFoundError):
                os.utime(path, (at, at))


LEAVING = (Corpus.abandoned_plan, Corpus.complete_but_never_loaded, Corpus.planning_broken_off, Corpus.losing_part,
           Corpus.never_released, Corpus.dropped_by_hand, Corpus.dropped_and_killed_before_its_records_went)  # fmt: skip


def storm(folder: Path, *, seed: int, releases: int, index: dict[str, Any]) -> Result:
    began, chance = time.monotonic(), random.Random(seed)
    corpus = Corpus(folder, f"gc{time.time_ns()}", index, chance)
    result = corpus.result
    result.seed = seed
    try:
        for number in range(releases):
            corpus.change()
            corpus.release()
            for leave in chance.sample(LEAVING, 2) if number % len(LEAVING) else LEAVING:
                leave(corpus)
                result.left_behind[leave.__name__] += 1
            if number == releases // 2:
                corpus.resumed = _begun(corpus)
            if number and chance.random() < 0.25:
                corpus.rollback()
            if chance.random() < 0.3:
                chance.choice([Corpus.gc, Corpus.gc_killed])(corpus)
        _collect_beside(corpus, corpus.resumed)
        corpus.resumed = ""
        corpus.age()
        result.objects_deleted_at_last = corpus.must("gc", "--yes", "--json").json["objects"]
        result.wrong += _differences(corpus)
        result.wrong += _unproved(corpus)
    finally:
        if index["target"] == "opensearch":
            delete_indices(index["url"], corpus.session().settings.corpus)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _begun(corpus: Corpus) -> str:
    """A run that is begun, and resumed when others are long live; of objects that stay as they are."""
    session = corpus.session(*_OF_RESUMED)
    plan = plan_corpus(session).plan
    embed_run(session, plan, only=set(list(plan.partitions.ids)[:2]))
    return plan.run_id


def _collect_beside(corpus: Corpus, resumed: str) -> None:
    """gc again and again while another process resumes an old run, which must come to its end."""
    value = json.loads(json.dumps(load_settings(corpus.conf, _OF_RESUMED).model_dump(mode="json")))
    conf = corpus.conf.with_name("resumed.json")
    conf.write_text(json.dumps(value))
    process = subprocess.Popen([sys.executable, "-m", "tests.e2e.slow_embed", str(conf), str(SLOW_S)], cwd=PROJECT,
                               env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    held = corpus.root / "runs" / resumed / "leases"
    newest = _newest(held)
    while _newest(held) == newest and process.poll() is None:
        time.sleep(0.02)
    during = 0
    while process.poll() is None:
        corpus.age()
        corpus.must("gc", "--yes")
        during += process.poll() is None
    _, err = process.communicate()
    corpus.result.collections += during
    if process.returncode != 0:
        corpus.result.wrong.append(f"the resumed run failed with {process.returncode}: {err}")
    manifest = corpus.root / "runs" / resumed / "manifest.json"
    if not during or not manifest.exists() or manifest.read_bytes() == MARK:
        corpus.result.wrong.append(f"the resumed run is not complete; gc ran {during} times beside it")


def _newest(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("**/*.json")), default=0.0)


def _differences(corpus: Corpus) -> list[str]:
    """Of the generations and files that are left from those that a reader can reach."""
    session, wrong = corpus.session(), list[str]()
    generations = session.target.generations(session.settings.corpus)
    live_run = next(each.meta.run_id for each in generations if each.name == corpus.path[-1])
    numbers = {path.stem.partition("-")[2]: int(path.stem.partition("-")[0])
               for path in sorted(corpus.root.glob("corpora/*/runs/*.json"))}  # fmt: skip
    later = {run_id for run_id, number in numbers.items() if number >= numbers[live_run]}
    released = set(corpus.lately)
    wanted = corpus.kept() | {
        each.name for each in generations if each.meta.run_id in later and each.name not in released
    }
    if {each.name for each in generations} != wanted:
        wrong.append(f"generations {sorted(each.name for each in generations)}, not {sorted(wanted)}")
    retained = later | {each.meta.run_id for each in generations}
    if numbers.keys() != retained:
        wrong.append(f"records of {sorted(numbers)}, not of {sorted(retained)}")
    named = set()
    for run_id in retained:
        path = corpus.root / "runs" / run_id / "manifest.json"
        for entry in json.loads(path.read_bytes())["entries"] if path.exists() else ():
            folder = corpus.root / "runs" / entry["run_id"] / "parts" / entry["partition"]
            named |= {folder / f"{part['number']:06d}-{part['sha256']}.parquet" for part in entry["parts"]}
    indices = {(each.name, each.uuid) for each in generations}
    found = {path for path in corpus.root.glob("runs/**/*") if path.is_file()}
    wrong += [f"{path} is named and gone" for path in sorted(named - found)[:5]]
    wrong += [
        f"{path} is left" for path in sorted(found - named) if not _reached(path, corpus.root, retained, indices)
    ][:5]
    wrong += [f"{path} is left" for path in corpus.root.glob("corpora/*/verifications/*/*")
              if (path.parent.name, path.name) not in indices and any(path.iterdir())]  # fmt: skip
    return wrong


def _reached(path: Path, root: Path, retained: set[str], indices: set[tuple[str, str]]) -> bool:
    """What is no part that a manifest names: a closed run's mark, or anything of a retained run that is neither a part of
    a completed one nor of an index that is gone."""
    run_id, *rest = path.relative_to(root / "runs").parts
    manifest = root / "runs" / run_id / "manifest.json"
    if run_id not in retained:
        return path == manifest and path.read_bytes() == MARK
    if rest[0] == "parts":
        return not manifest.exists()
    stage, *index = rest[1:] if rest[0] == "leases" else rest
    return stage not in ("loads", "redrive") or len(index) < 3 or (index[0], index[1]) in indices


def _unproved(corpus: Corpus) -> list[str]:
    """Each kept generation is verified anew from its parts; and rollbacks lead back through them."""
    wrong = []
    for name in sorted(corpus.kept()):
        outcome = backhaul_here("verify", corpus.conf, "--generation", name)
        wrong += [f"{name} is not proved: {outcome.err}"] if outcome.code else []
    for name in reversed(corpus.path[-1 - KEEP : -1]):
        outcome = backhaul_here("rollback", corpus.conf, "--yes", "--json")
        if outcome.code or outcome.json["generation"] != name:
            wrong.append(f"no rollback to {name}: {outcome.err or outcome.out}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--releases", type=int, default=20)
    parser.add_argument("--target", choices=["opensearch", "lancedb"], default="opensearch")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gc-storm-"))
    try:
        with ExitStack() as stack:
            index: dict[str, Any] = {"target": arguments.target}
            if arguments.target == "opensearch":
                index |= {"url": stack.enter_context(running_node()).url, "replicas": 0}
            result = storm(folder, seed=arguments.seed, releases=arguments.releases, index=index)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(vars(result), indent=1))
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
