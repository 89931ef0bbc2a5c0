"""Small generated corpora and run descriptions for end-to-end tests. Deterministic by seed."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import orjson
import yaml

_WORDS = [a + b for a in ("al", "bo", "cre", "do", "fi", "gra", "lu", "mer", "nor", "pel", "qua", "ri", "sto", "ver")
          for b in ("ba", "cent", "dor", "fel", "gan", "lim", "mot", "nis", "pol", "ras", "sen", "tur")]  # fmt: skip


def write_corpus(folder: Path, *, objects: int, documents: int, words: int = 20, seed: int = 1,
                 gzipped: bool = False) -> Path:  # fmt: skip
    """``objects`` JSONL objects of ``documents`` each under ``folder/<doc_type>/``; ids are unique over all."""
    chance = random.Random(seed)
    for number in range(objects):
        kind = ("faq", "guide", "note")[number % 3]
        rows = [
            {"id": f"d{number}-{i}", "title": " ".join(chance.choices(_WORDS, k=4)),
             "text": " ".join(chance.choices(_WORDS, k=words)), "kind": kind, "rank": i, "lang": chance.choice(["en", "de"])}
            for i in range(documents)
        ]  # fmt: skip
        data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        path = folder / kind / f"object-{number:05d}.jsonl{'.gz' if gzipped else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0) if gzipped else data)
    return folder


def write_conf(path: Path, *, root: str, source: str, corpus: str = "papers", fields: dict[str, Any] | None = None,
               **sections: dict[str, Any]) -> Path:  # fmt: skip
    """A run description with the hash embedder; ``sections`` are laid over it, key by key."""
    value: dict[str, Any] = {
        "corpus": corpus,
        "root": root,
        "source": {"uri": source, "format": "jsonl",
                   "fields": fields or {"id": "id", "title": "title", "text": "text", "doc_type": "kind", "metadata": ["rank", "lang"]}},
        "split": {"method": "none"},
        "embed": {"backend": "hash", "dimensions": 32, "rows_per_part": 64, "derived": None, "precision": "fp32", "threads": 1},
        "engine": {"workers": 2},
    }  # fmt: skip
    for name, section in sections.items():
        value[name] = {**value.get(name, {}), **section} if isinstance(section, dict) else section
    path.write_text(yaml.safe_dump(value))
    return path


def write_three_partitions(folder: Path, **sections: Any) -> Path:
    """Three objects in three partitions, run in this process."""
    source = folder / "source"
    if not source.exists():
        write_corpus(source, objects=3, documents=60)
    values: dict[str, Any] = {"root": f"file://{folder}/root", "source": f"file://{source}", "engine": {"workers": 0},
                              "partition": {"path": "{doc_type}/**", "by": ["doc_type"]}}  # fmt: skip
    return write_conf(folder / "run.yaml", **{**values, **sections})
