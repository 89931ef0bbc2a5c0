"""Embed with a sentence-transformers model in plain fp32, on a GPU where there is one. Knows no documents.

The model's modules run as ``encode()`` runs them; only tokenising and batching are ours, so that batches follow
from the plan.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pipelines.embed.batches import Tokens, embed_in_batches, kept_dimensions, padded
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.hardware import cpu_kind, versions
from pipelines.embed.models import Model
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import TokenEncoder
from pipelines.errors import GateRefused, SettingsError
from pipelines.space import ObservedMaker, RequestedMaker

# Both are read when the libraries are first imported or the GPU is first used.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with a fixed workspace only

try:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging
except ImportError as missing:
    raise SettingsError(
        f"backend torch needs {missing.name}, which the base install leaves out; run `make setup` "
        "(or install the extra `torch`), or use embed.backend: onnx"
    ) from missing

_PROBE = "Tokenizers agree: naïve Ångström 北京 don't re-index 1,000.50 €?"


class TorchEmbedder:
    """Sets torch's thread count and deterministic algorithms for the whole process, which it has to itself."""

    def __init__(self, settings: EmbedSettings, requested: RequestedMaker, model: Model) -> None:
        torch.set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("highest")
        self.space = model.space
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        hardware = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else cpu_kind()
        self.maker = ObservedMaker(
            requested,
            versions("torch", "sentence-transformers", "transformers", "numpy", "tokenizers"),
            hardware,
            settings.batch_tokens,
        )
        self._encoder = TokenEncoder(model.tokenizer, model.space.max_tokens)
        self._pad_id = model.config.pad_id
        self._batch_tokens = settings.batch_tokens
        self._model = _open_model(model, self._device)
        self._must_tokenise_alike(model)

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        prompt = self.space.query_prompt if role == "query" else self.space.document_prompt
        rows = self._encoder.encode(texts, prompt)
        return embed_in_batches(rows, self._batch_tokens, self.space.dimensions, self._embed_batch)

    def _embed_batch(self, rows: Sequence[Tokens]) -> Vectors:
        ids, mask = padded(rows, self._pad_id)
        with torch.inference_mode():
            features = {"input_ids": torch.from_numpy(ids).to(self._device),
                        "attention_mask": torch.from_numpy(mask).to(self._device)}  # fmt: skip
            found: Vectors = self._model(features)["sentence_embedding"].float().cpu().numpy()
        return kept_dimensions(found, self.space.dimensions, normalized=self.space.normalized)

    def _must_tokenise_alike(self, model: Model) -> None:
        """transformers may build its tokenizer from other files than tokenizer.json, or in another way."""
        theirs = self._model.tokenizer(_PROBE)["input_ids"]
        ours = self._encoder.encode([_PROBE], "")[0].tolist()
        if theirs != ours:
            raise GateRefused(
                f"model {model.reference}: tokenizer.json and transformers cut a text into different tokens "
                f"({ours} and {theirs}), so its vectors would not be those of encode(); choose another model"
            )


def _open_model(model: Model, device: torch.device) -> Any:  # Any: sentence-transformers is untyped at this border
    transformers_logging.disable_progress_bar()
    opened = SentenceTransformer(
        str(model.folder),
        device=str(device),
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )
    opened.eval()
    return opened
