"""What every fast path is compared with: sentence-transformers' own ``encode()``, fp32 on the CPU. Knows no documents."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.models import Model
from pipelines.model.extras import need

os.environ.setdefault("HF_HUB_OFFLINE", "1")
need("torch", "comparing with encode()", "torch", "sentence_transformers")

import torch  # noqa: E402  # after the check, whose message names the extra
from sentence_transformers import SentenceTransformer  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402


class PlainEncoder:
    """Its batches, padding and attention are the library's defaults. Sets torch's thread count for the whole process."""

    name = "encode(), fp32"

    def __init__(self, model: Model, threads: int) -> None:
        torch.set_num_threads(threads)
        transformers_logging.disable_progress_bar()
        self._space = model.space
        self._model = SentenceTransformer(
            str(model.folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            truncate_dim=model.space.dimensions,
        )

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        """float32[len(texts), dimensions]; vectors that were truncated have length 1 again, as the Space says."""
        prompt = self._space.query_prompt if role == "query" else self._space.document_prompt
        found: Vectors = self._model.encode(list(texts), prompt=prompt, show_progress_bar=False,
                                            normalize_embeddings=self._space.normalized)  # fmt: skip
        return found.astype(np.float32, copy=False)
