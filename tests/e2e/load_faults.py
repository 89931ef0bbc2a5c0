"""A corpus is loaded into a real OpenSearch through a proxy that misbehaves by seed; the index must be exact.

One command: ``python -m tests.e2e.load_faults --seeds 1 10 [--documents 2000] [--share 0.3]``. Every seed loads the
same manifest into a new index by ``backhaul load``; some of its documents the index can never take. Exits 1 when a row
is missing, is there twice or altered, when a good row was refused, or a poisonous one not, or without its reason.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import yaml

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.load import load_task
from pipelines.load import must_read_manifest
from pipelines.manifest import read_rows
from pipelines.receipts import load_receipts
from tests.e2e.command import backhaul
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.faulty_opensearch import SeededFaults, faulty_opensearch
from tests.fixtures.opensearch import running_node

OBJECTS = 10
# What the index refuses for good, with a word of the reason it gives: by the record's number in its object.
# A time zone 20 hours ahead is ISO 8601 to the reader; OpenSearch knows 18 at most.
POISON = {3: ({"date": "2024-01-01T00:00:00+20:00"}, "parse date field"), 7: ({"kind": "k" * 40_000}, "immense term")}


@dataclass(frozen=True)
class Result:
    """What one seed did. ``met`` counts the bulk requests by the fault that they met."""

    seed: int
    rows: int
    missing: int
    strangers: int
    altered: int
    twice: int
    good_refused: int
    poison_missed: int
    without_reason: int
    seconds: float
    met: dict[str, int]
    met_by_others: dict[str, int]

    @property
    def exact(self) -> bool:
        wrong = (self.missing, self.strangers, self.altered, self.twice, self.good_refused, self.poison_missed)
        return not any(wrong) and self.without_reason == 0


def prepared(folder: Path, *, documents: int, dimensions: int = 16) -> Path:
    """A run description whose corpus is embedded."""
    source = write_corpus(folder / "source", objects=OBJECTS, documents=documents // OBJECTS, words=12)
    for path in source.rglob("*.jsonl"):
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        for number, (poison, _) in POISON.items():
            rows[number] |= poison
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    conf = write_conf(
        folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{source}", corpus=f"faults{time.time_ns()}",
        embed={"dimensions": dimensions, "rows_per_part": 256},
        index={"target": "opensearch", "url": "http://127.0.0.1:1", "replicas": 0, "max_bulk_bytes": 1 << 16,
               "max_dead_letters": OBJECTS * len(POISON)})  # fmt: skip
    value = yaml.safe_load(conf.read_text())
    value["source"]["fields"]["date"] = "date"
    conf.write_text(yaml.safe_dump(value))
    done = backhaul("embed", conf)
    assert done.code == 0, done.err
    return conf


def load_each(conf: Path, node: str, seeds: Iterable[int], share: float = 0.3, at_once: int = 3) -> Iterator[Result]:
    """Most of a load through faults is waiting, so several go on at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(lambda seed: load_through(conf, node, seed, share), seeds)


def load_through(conf: Path, node: str, seed: int, share: float) -> Result:
    """Load into a new index by way of the proxy, then compare it with the manifest by way of none."""
    faults, own = SeededFaults(seed, share), f"index.ef_construction={64 + seed}"  # makes a generation of its own
    began = time.monotonic()
    with faulty_opensearch(node, faults) as url:
        outcome = backhaul("load", conf, "--set", f"index.url={url}", "--set", own, timeout_s=900)
    seconds = time.monotonic() - began
    assert outcome.code == 0, f"seed {seed}: {outcome.err}"
    session = Session(load_settings(conf, [f"index.url={node}", own]), quiet=True)
    try:
        return _compare(session, seed, round(seconds, 1), faults)
    finally:
        session.target.drop(session.generation_name(session.plan().run_id))


def _compare(session: Session, seed: int, seconds: float, faults: SeededFaults) -> Result:
    plan = session.plan()
    manifest = must_read_manifest(session.store, plan.run_id)
    name = session.generation_name(plan.run_id)
    generation = session.target.find(name)
    assert generation is not None
    receipts = load_receipts(session.store, plan.run_id, name, generation.uuid)
    letters = load_task(session, generation).dead_letters(session.store)
    wanted: dict[str, tuple[str, str]] = {}  # id → row digest, document id
    found: list[tuple[str, str]] = []
    dead: dict[str, str] = {}
    for entry in manifest.entries:
        for _, table in read_rows(session.store, entry):
            digests = (digest.hex() for digest in table["row_digest"].to_pylist())
            columns = (table["id"].to_pylist(), digests, table["document_id"].to_pylist())
            wanted |= {row: (digest, document) for row, digest, document in zip(*columns, strict=True)}
        found += [
            (row["id"], row["row_digest"]) for page in session.target.scan(name, entry.partition) for row in page.rows
        ]
        receipt = receipts.find(entry.partition)
        assert receipt is not None
        dead |= {kept.letter.id: kept.letter.reason for kept in letters.read(receipt["rejects"])}
    reasons = {row: why for row, (_, document) in wanted.items() if (why := _poison(document))}
    there = dict(found)
    good = set(wanted) - set(reasons)
    return Result(
        seed=seed,
        rows=session.target.count(name),
        missing=len(good - set(there)),
        strangers=len(set(there) - good) + abs(session.target.count(name) - len(found)),
        altered=sum(there[row] != wanted[row][0] for row in good & set(there)),
        twice=len(found) - len(there),
        good_refused=len(set(dead) - set(reasons)),
        poison_missed=len(set(reasons) - set(dead)),
        without_reason=sum(why not in dead[row] for row, why in reasons.items() if row in dead),
        seconds=seconds,
        met=dict(faults.met),
        met_by_others=dict(faults.met_by_others),
    )


def _poison(document_id: str) -> str | None:
    """The word that the reason must hold; ids are ``d<object>-<record>``."""
    found = POISON.get(int(document_id.rpartition("-")[2]))
    return found[1] if found else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FIRST", "LAST"))
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.3, help="of the requests that meet a fault")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="load-faults-"))
    try:
        with running_node() as node:
            conf = prepared(folder, documents=arguments.documents)
            exact = True
            for result in load_each(conf, node.url, range(arguments.seeds[0], arguments.seeds[1] + 1), arguments.share):
                print(orjson.dumps(asdict(result)).decode(), flush=True)
                exact = exact and result.exact
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
