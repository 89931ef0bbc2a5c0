"""Every way to embed with MiniLM beside fp32 ``encode()``, on SciFact and MedQuAD: cosines, nDCG@10, recall@100.

One command: ``python -m tests.benchmarks.models`` (half an hour on two cores, half of it ``encode()``; ``--data scifact``,
``--limit`` and ``--way`` take less). The int8 file is calibrated on 300 SciFact documents and meets MedQuAD unprepared. Texts are title,
space and text, cut at 256 tokens, not split. Writes results/models.json, and a picture of each into ``--plots``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.settings import EmbedSettings
from pipelines.labelled import read_labelled
from pipelines.model.agreement import Embeds, compare_labelled
from pipelines.model.make import count_tokens
from pipelines.model.originals import model_of
from pipelines.model.plot import plot_agreement
from tests.benchmarks.machine import write_results
from tests.e2e.command import backhaul

SETS = ("scifact", "medquad")
# Which file of the two that are made, and the settings besides.
WAYS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "torch bf16": (None, {"backend": "torch", "precision": "bf16"}),
    "openvino fp32": ("fp32", {"backend": "openvino"}),
    "openvino bf16": ("fp32", {"backend": "openvino", "precision": "bf16"}),
    "openvino int8": ("int8", {"backend": "openvino"}),
    "onnx int8": ("int8", {"backend": "onnx"}),
}
_TIMEOUT_S = 7200


class Remembered:
    """An embedder that embeds each text once."""

    def __init__(self, inner: Embeds) -> None:
        self._inner = inner
        self._known: dict[tuple[str, Role], Vectors] = {}

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if (text, role) not in self._known]
        if new:
            self._known.update(((text, role), row) for text, row in zip(new, self._inner.embed(new, role), strict=True))
        return np.stack([self._known[text, role] for text in texts])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETS, action="append")
    parser.add_argument("--way", choices=list(WAYS), action="append")
    parser.add_argument("--limit", type=int, help="documents to keep of each set; figures are then of a part")
    parser.add_argument("--plots", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="models") as folder:
        figures = measure(Path(folder), sets=arguments.data or SETS, ways=arguments.way or list(WAYS), limit=arguments.limit,
                          plots=arguments.plots)  # fmt: skip
    print(f"written to {write_results('models', figures)}")
    return 0


def measure(folder: Path, *, sets: Sequence[str], ways: Sequence[str], limit: int | None = None,
            plots: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """Figures by set and way; ``made`` has those that the files' cards hold."""
    data = Path(os.environ.get("BACKHAUL_DATA", "../shared/data")).resolve()
    made = {"fp32": _run("export", _conf(folder, data, "export"), "--sample", "100"),
            "int8": _run("quantize", _conf(folder, data, "quantize"))}  # fmt: skip
    model = model_of(EmbedSettings(), None)
    from pipelines.model.plain import PlainEncoder  # takes seconds, and tests import this module

    plain = Remembered(PlainEncoder(model, 2))
    figures: dict[str, Any] = {"made": {name: found["agreement"] for name, found in made.items()}}
    for name in sets:
        files = (data / name / file for file in ("corpus.jsonl.gz", "queries.jsonl", "qrels.tsv"))
        labelled = read_labelled(*files, limit=limit)
        for way in ways:
            file, settings = WAYS[way]
            derived = made[file]["settings"]["embed.derived"] if file else None
            embed = EmbedSettings.model_validate({"threads": 2, **settings, "derived": derived})
            found = compare_labelled(plain, open_embedder(embed), labelled, lambda texts: count_tokens(model, texts))
            if plots:
                plot_agreement(found, plots / f"{name}-{way.replace(' ', '-')}.svg", plain=PlainEncoder.name, fast=way,
                               data=labelled.name)  # fmt: skip
            # Without rates: what is remembered takes no time.
            shown = {key: value for key, value in found.to_json().items() if key not in ("tokens_per_s", "tokens")}
            figures.setdefault(name, {"data": labelled.name})[way] = shown
            print(figures_text(name, way, shown), flush=True)
    return figures


def figures_text(name: str, way: str, found: dict[str, Any]) -> str:
    ndcg = found["ndcg@10"]
    return (f"{name}, {way}: nDCG@10 {100 * ndcg['plain']:.2f} and {100 * ndcg['fast']:.2f} (loss {ndcg['relative_loss']:.2%}), "
            f"cosine p1 {found['cosine']['p1']:.5f}, least {found['cosine']['min']:.5f}")  # fmt: skip


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
