"""Retrieval quality of the whole job on SciFact, through ``backhaul run`` and ``backhaul evaluate``.

One command: ``make bench-quality``. The same run is loaded into OpenSearch and into LanceDB (index settings decide
no vector, so it is embedded once), once without splitting and once split. Writes results/quality.json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.machine import write_results
from tests.e2e.command import backhaul
from tests.fixtures.opensearch import running_node

MODES = [("vector", True), ("vector", False), ("lexical", False), ("hybrid", False)]
SPLITS = {"none": {"method": "none"}, "tokens-256-32": {"method": "tokens", "max_tokens": 256, "overlap_tokens": 32}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BACKHAUL_DATA", "../shared/data")))
    parser.add_argument("--split", choices=list(SPLITS), action="append")
    parser.add_argument("--root", type=Path, help="keep state here, so that a second run embeds nothing")
    arguments = parser.parse_args()
    scifact = (arguments.data / "scifact").resolve()
    folder = arguments.root or Path(tempfile.mkdtemp(prefix="quality"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with running_node() as node:
            figures = {split: {target: _measure(folder, scifact, split, target, node.url) for target in ("opensearch", "lancedb")}
                       for split in arguments.split or SPLITS}  # fmt: skip
    finally:
        if not arguments.root:
            shutil.rmtree(folder, ignore_errors=True)
    _print(figures)
    print(f"written to {write_results('quality', {'scifact': figures})}")
    return 0


def _measure(folder: Path, scifact: Path, split: str, target: str, url: str) -> dict[str, Any]:
    conf = folder / f"{split}-{target}.yaml"
    conf.write_text(yaml.safe_dump({
        "corpus": f"scifact-{split}",
        "root": f"file://{folder / 'root'}",
        "source": {"uri": f"file://{scifact}/corpus.jsonl.gz", "format": "jsonl",
                   "fields": {"id": "_id", "title": "title", "text": "text"}},
        "split": {"template": "{title} {text}", **SPLITS[split]},
        "embed": {"backend": "torch", "precision": "fp32", "derived": None, "threads": 2, "rows_per_part": 512},
        "index": {"target": target, "url": url if target == "opensearch" else None, "analyzer": "english",
                  "replicas": 0},
        "engine": {"workers": 1},
    }))  # fmt: skip
    done = backhaul("run", conf, "--json", timeout_s=3000)
    if done.code:
        raise SystemExit(done.err)
    figures: dict[str, Any] = {"run": {name: done.json[name] for name in ("rows", "documents", "tokens_per_second")}}
    for mode, exact in MODES:
        answer = backhaul("evaluate", conf, "--queries", scifact / "queries.jsonl", "--qrels", scifact / "qrels.tsv",
                          "--mode", mode, *(["--exact"] if exact else []), "--json", timeout_s=600)  # fmt: skip
        if answer.code:
            raise SystemExit(answer.err)
        name = f"{mode}{' exact' if exact else ''}"
        figures[name] = {metric: answer.json[metric] for metric in ("ndcg@10", "recall@100", "mrr@10")}
    return figures


def _print(figures: dict[str, Any]) -> None:
    print(f"{'split':<15}{'target':<12}{'mode':<14}{'nDCG@10':>9}{'R@100':>9}{'MRR@10':>9}")
    for split, targets in figures.items():
        for target, modes in targets.items():
            for mode, found in modes.items():
                if mode != "run":
                    values = "".join(f"{100 * found[metric]:>9.2f}" for metric in ("ndcg@10", "recall@100", "mrr@10"))
                    print(f"{split:<15}{target:<12}{mode:<14}{values}")


if __name__ == "__main__":
    sys.exit(main())
