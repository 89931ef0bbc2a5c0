"""What a job's embedder does by itself: the same texts, as many at once as a part has rows, in one process. ``CONF``, a run
description over Parquet. Prints the seconds without loading, which one text warms up."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from jobs.settings import load_settings
from pipelines.embed.backends import open_embedder
from tests.benchmarks.texts import input_of

settings = load_settings(sys.argv[1])
files = sorted(Path(settings.source.uri.removeprefix("file://")).glob("*.parquet"))
texts = [input_of(row) for file in files for row in pq.read_table(file, columns=["title", "text"]).to_pylist()]
embedder = open_embedder(settings.embed)
embedder.embed(texts[:1], "document")
began = time.perf_counter()
for start in range(0, len(texts), settings.embed.rows_per_part):
    embedder.embed(texts[start : start + settings.embed.rows_per_part], "document")
print(time.perf_counter() - began)
