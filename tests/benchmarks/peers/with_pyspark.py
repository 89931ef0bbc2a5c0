"""PySpark: read JSON Lines, embed with mapInPandas, write Parquet. ``SOURCE OUT WORKERS [key=value …]``.

Without further words all of Spark's defaults; with them its documented tuning, as Spark properties.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession

from pipelines.embed.backends import open_embedder
from pipelines.embed.settings import EmbedSettings
from pipelines.storage import StorageSettings


def embed(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    embedder = open_embedder(EmbedSettings(backend="hash", dimensions=384), StorageSettings())
    for batch in batches:
        texts = [f"{title} {text}" for title, text in zip(batch["title"], batch["text"], strict=True)]
        yield pd.DataFrame({"id": batch["id"], "text": texts, "vector": list(embedder.embed(texts, "document"))})


os.environ["PYSPARK_PYTHON"] = sys.executable
source, out, workers, *conf = sys.argv[1:]
builder = SparkSession.builder.master(f"local[{workers}]").config("spark.ui.enabled", "false")
for key, _, value in (word.partition("=") for word in conf):
    builder = builder.config(key, value)
spark = builder.getOrCreate()
rows = spark.read.json(source, schema="id string, title string, text string", recursiveFileLookup=True)
rows.mapInPandas(embed, "id string, text string, vector array<float>").write.parquet(out)
