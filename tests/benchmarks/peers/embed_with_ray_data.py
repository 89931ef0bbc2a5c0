"""Ray Data and sentence-transformers, as their documentations put them together: read Parquet, embed in an actor that holds the
model, write Parquet. ``SOURCE OUT MODEL THREADS [precision batch]``.

Without further words both libraries' defaults; with them the model's precision and the batch size of ``encode()``, which then
sorts 1,024 rows at a time by length. One actor, so that one model is loaded.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import ray


class Embed:
    def __init__(self, model: str, threads: int, precision: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(model, device="cuda" if torch.cuda.is_available() else "cpu",
                                         local_files_only=True, model_kwargs={"dtype": precision})  # fmt: skip

    def __call__(self, batch: dict[str, Any], size: int) -> dict[str, Any]:
        texts = [f"{title} {text}".strip() for title, text in zip(batch["title"], batch["text"], strict=True)]
        return {"id": batch["id"], "text": np.array(texts), "vector": self.model.encode(texts, batch_size=size)}


source, out, model, threads, *tuned = sys.argv[1:]
precision, size = (tuned[0], int(tuned[1])) if tuned else ("float32", 32)
ray.init(address="local", num_cpus=int(threads), include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
rows = ray.data.read_parquet(source)
gpus = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {}
rows.map_batches(Embed, fn_constructor_args=(model, int(threads), precision), fn_kwargs={"size": size}, batch_size=1024,
                 compute=ray.data.ActorPoolStrategy(size=1), **gpus).write_parquet(out)  # fmt: skip
