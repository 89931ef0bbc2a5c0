"""MiniLM's exported and int8 files beside fp32 ``encode()``, on SciFact and MedQuAD: cosines, nDCG@10, recall@100, tokens/s.

One command: ``python -m tests.benchmarks.models`` (twenty minutes on two cores, nearly all of it ``encode()``; ``--data scifact``
and ``--limit`` take less). The int8 file is calibrated on 300 SciFact documents and meets MedQuAD unprepared. Texts are title,
space and text, cut at 256 tokens, not split. Writes results/models.json, and a picture of each into ``--plots``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.machine import write_results
from tests.e2e.command import backhaul

SETS = ("scifact", "medquad")
_TIMEOUT_S = 7200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETS, action="append")
    parser.add_argument("--limit", type=int, help="documents to keep of each set; figures are then of a part")
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--fp32", action="store_true", help="compare the exported fp32 file as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="models") as folder:
        figures = measure(Path(folder), sets=arguments.data or SETS, limit=arguments.limit, plots=arguments.plots,
                          fp32=arguments.fp32)  # fmt: skip
    print(f"written to {write_results('models', figures)}")
    return 0


def measure(folder: Path, *, sets: tuple[str, ...] | list[str], limit: int | None = None, plots: Path | None = None,
            fp32: bool = False) -> dict[str, Any]:  # fmt: skip
    """Figures by set and file, as ``backhaul model compare --json`` prints them."""
    data = Path(os.environ.get("BACKHAUL_DATA", "../shared/data")).resolve()
    exported = _run("export", _conf(folder, data, "export"), "--sample", "100")
    made = _run("quantize", _conf(folder, data, "quantize"))
    files = {"int8": made, **({"fp32": exported} if fp32 else {})}
    figures: dict[str, Any] = {"made": {name: found["agreement"] for name, found in files.items()}}
    for name in sets:
        labels = [word for kind, file in (("corpus", "corpus.jsonl.gz"), ("queries", "queries.jsonl"), ("qrels", "qrels.tsv"))
                  for word in (f"--{kind}", data / name / file)]  # fmt: skip
        for precision, found in files.items():
            conf = _conf(folder, data, precision, found["settings"])
            plot = ["--plot", plots / f"{name}-{precision}.svg"] if plots else []
            cut = ["--limit", str(limit)] if limit else []
            figures.setdefault(name, {})[precision] = _run("compare", conf, *labels, *plot, *cut)
            print(figures_text(name, precision, figures[name][precision]))
    return figures


def figures_text(name: str, precision: str, found: dict[str, Any]) -> str:
    ndcg, rate = found["ndcg@10"], found["tokens_per_s"]
    return (f"{name} {precision}: nDCG@10 {100 * ndcg['plain']:.2f} and {100 * ndcg['fast']:.2f} (loss {ndcg['relative_loss']:.2%}), "
            f"cosine p1 {found['cosine']['p1']:.4f}, tokens/s {rate['plain']:,.0f} and {rate['fast']:,.0f}")  # fmt: skip


def _conf(folder: Path, data: Path, name: str, settings: dict[str, str] | None = None) -> Path:
    embed = {key.removeprefix("embed."): value for key, value in (settings or {}).items()}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({
        "corpus": "models", "root": f"file://{folder}/root",
        "source": {"uri": f"file://{data}/scifact/corpus.jsonl.gz", "format": "jsonl",
                   "fields": {"id": "_id", "title": "title", "text": "text"}},
        "split": {"method": "none", "template": "{title} {text}"},
        "embed": {"threads": 2, **embed},
    }))  # fmt: skip
    return path


def _run(verb: str, conf: Path, *words: str | Path) -> dict[str, Any]:
    done = backhaul("model", verb, conf, *words, "--json", timeout_s=_TIMEOUT_S)
    if done.code:
        raise SystemExit(done.err)
    return done.json


if __name__ == "__main__":
    sys.exit(main())
