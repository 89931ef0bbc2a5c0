"""Generations on a real OpenSearch node are corrupted by seed behind Backhaul's back: `verify` must refuse each by the
right gate and name the cause, `repair` must mend what can be mended and write no other row, and `verify` must pass then.

One command: ``python -m tests.e2e.corruptions --seeds 1 10 [--documents 2000] [--good 5]``. Exits 1 when a corruption is
not refused, not for its cause, or not mended as it was, and when a good generation is refused.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import yaml

from tests.e2e.command import Outcome, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.e2e.corruption_kinds import KINDS, Corruption, Kind, Rows
from tests.e2e.indexed import Indexed, load
from tests.fixtures.opensearch import running_node

REFUSED = 3


@dataclass(frozen=True)
class Result:
    """What became of one corruption; ``wrong`` is empty where all was as it must be."""

    seed: int
    kind: str
    gates: tuple[str, ...]
    mendable: bool
    seconds: float
    wrong: tuple[str, ...]


def prepared(folder: Path, node: str, *, documents: int = 2_000, seed: int = 1) -> Path:
    """The run description of an embedded corpus of three partitions, with tenants."""
    source = write_corpus(folder / f"source{seed}", objects=3, documents=-(-documents // 3), words=12, seed=seed)
    conf = write_conf(
        folder / f"run{seed}.yaml", root=f"file://{folder}/root{seed}", source=f"file://{source}",
        corpus=f"corrupt{time.time_ns()}", engine={"workers": 0}, embed={"dimensions": 16, "rows_per_part": 256},
        partition={"path": "{doc_type}/**", "by": ["doc_type"]}, verify={"green_within_s": 1},
        index={"target": "opensearch", "url": node, "replicas": 0})  # fmt: skip
    value = yaml.safe_load(conf.read_text())
    value["source"]["fields"] |= {"tenant": "lang", "metadata": ["rank"]}
    conf.write_text(yaml.safe_dump(value))
    done = backhaul_here("embed", conf)
    assert done.code == 0, done.err
    return conf


def corrupt_each(index: Indexed, seeds: Iterable[int]) -> Iterator[Result]:
    """One corruption a seed on the same generation: what a repair leaves is what the next one starts from."""
    rows = index.rows()
    for seed in seeds:
        result, rows = corrupt(index, rows, seed, KINDS[seed % len(KINDS)])
        yield result


def corrupt(index: Indexed, good: Rows, seed: int, kind: Kind) -> tuple[Result, Rows]:
    """Corrupt, verify, repair and verify again; and the rows as they are then."""
    began, wrong = time.monotonic(), list[str]()
    made = kind(index, good, random.Random(seed))
    where = made.of or index
    refused = where.command("verify", settings=made.settings)
    wrong += _not_refused_for(refused, made)
    mended = where.command("repair", "--yes", settings=made.settings)
    rows = index.rows()
    if made.mendable:
        wrong += [] if mended.code == 0 else [f"repair: {mended.err}"]
        wrong += _not_as_it_was(good, rows, made.touched)
    else:
        wrong += _not_refused_for(mended, made)
        wrong += [] if rows == good else ["a repair that was refused wrote rows"]
        made.undo()
    passed = index.command("verify")
    wrong += [] if passed.code == 0 else [f"verify after all: {passed.err}"]
    seconds = round(time.monotonic() - began, 2)
    return Result(seed, kind.__name__, tuple(sorted(made.gates)), made.mendable, seconds, tuple(wrong)), rows


def refused_good_ones(folder: Path, node: str, count: int, documents: int = 2_000) -> list[str]:
    """Load and verify as many good generations, of several corpora and settings: what each refusal said."""
    refusals = []
    for number in range(count):
        corpus, chance = number % 5, random.Random(number)
        conf = folder / f"run{100 + corpus}.yaml"
        if not conf.exists():
            prepared(folder, node, documents=documents, seed=100 + corpus)
        settings = (f"index.ef_construction={100 + number}", f"index.m={chance.choice([12, 16, 24])}",
                    f"index.shards={chance.choice([1, 1, 2, 3])}", f"index.analyzer={chance.choice(['english', 'german'])}")  # fmt: skip
        index = load(conf, node, settings)
        outcome = index.command("verify")
        refusals += [outcome.err] if outcome.code else []
        index.send("DELETE", "")
    return refusals


def _not_refused_for(outcome: Outcome, made: Corruption) -> list[str]:
    if outcome.code != REFUSED:
        return [f"exit code {outcome.code}: {outcome.err or outcome.out}"]
    gates = {line.strip().partition(": ")[0] for line in outcome.err.splitlines() if line.startswith("  ")}
    wrong = (
        []
        if gates - made.may == made.gates
        else [f"refused by {sorted(gates)}, not {sorted(made.gates)}: {outcome.err}"]
    )
    return wrong + [f"{name!r} is not named: {outcome.err}" for name in made.named if name not in outcome.err]


def _not_as_it_was(good: Rows, rows: Rows, touched: frozenset[str]) -> list[str]:
    wrong = [f"{key} was not mended" for key in good if key not in rows or rows[key].source != good[key].source]
    wrong += [f"{key} was left" for key in rows if key not in good]
    return wrong + [f"{key} was right, and written again" for key in good.keys() & rows.keys() - touched
                    if rows[key].write != good[key].write]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FIRST", "LAST"))
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--good", type=int, default=5, help="generations that must not be refused")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="corruptions-"))
    right = True
    try:
        with running_node() as node:
            index = load(prepared(folder, node.url, documents=arguments.documents), node.url)
            for result in corrupt_each(index, range(arguments.seeds[0], arguments.seeds[1] + 1)):
                print(orjson.dumps(asdict(result)).decode(), flush=True)
                right = right and not result.wrong
            refusals = refused_good_ones(folder, node.url, arguments.good, arguments.documents)
            print(orjson.dumps({"good": arguments.good, "refused": refusals}).decode(), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if right and not refusals else 1


if __name__ == "__main__":
    sys.exit(main())
