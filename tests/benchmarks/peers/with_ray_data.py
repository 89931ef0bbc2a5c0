"""Ray Data: read JSON Lines, embed in a pool of actors, write Parquet. ``SOURCE OUT WORKERS [blocks]``.

Without ``blocks`` all of Ray Data's defaults; with it the documented advice for many small files: fewer, larger
blocks (``override_num_blocks``).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import ray

from pipelines.embed.backends import open_embedder
from pipelines.embed.settings import EmbedSettings
from pipelines.storage import StorageSettings


class Embed:
    def __init__(self) -> None:
        self.embedder = open_embedder(EmbedSettings(backend="hash", dimensions=384), StorageSettings())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        texts = [f"{title} {text}" for title, text in zip(batch["title"], batch["text"], strict=True)]
        return {"id": batch["id"], "text": np.array(texts), "vector": self.embedder.embed(texts, "document")}


source, out, workers, *blocks = sys.argv[1:]
ray.init(address="local", num_cpus=int(workers), include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
rows = ray.data.read_json(source, lines=True, override_num_blocks=int(blocks[0]) if blocks else None)
rows.map_batches(Embed, compute=ray.data.ActorPoolStrategy(min_size=1, max_size=int(workers))).write_parquet(out)
