"""Daft: read Parquet, embed, write Parquet. ``SOURCE OUT MODEL THREADS [precision batch]``.

Without further words its own ``embed_text`` with the provider transformers; with them a class of one's own that holds the model,
with its precision and the batch size of ``encode()``, which then sorts 1,024 rows at a time by length.
"""

from __future__ import annotations

import sys
from typing import Any

import daft
import torch
from daft import DataType
from daft.functions import embed_text

source, out, model, threads, *tuned = sys.argv[1:]
torch.set_num_threads(int(threads))


@daft.udf(return_dtype=DataType.fixed_size_list(DataType.float32(), 384), batch_size=1024, concurrency=1)
class Embed:
    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(int(threads))
        self.model = SentenceTransformer(model, local_files_only=True, model_kwargs={"dtype": tuned[0]})

    def __call__(self, texts: Any) -> Any:
        return self.model.encode(texts.to_pylist(), batch_size=int(tuned[1]))


if __name__ == "__main__":
    rows = daft.read_parquet(source)
    rows = rows.with_column("input", rows["title"] + " " + rows["text"])
    vector = Embed(rows["input"]) if tuned else embed_text(rows["input"], provider="transformers", model=model)
    rows.with_column("vector", vector).select("id", "input", "vector").write_parquet(out)
