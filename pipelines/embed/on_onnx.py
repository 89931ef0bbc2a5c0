"""Embed with ONNX Runtime on the CPU. Knows one model and its file; knows no documents.

A dynamically quantised file takes activation ranges from the whole batch, so a vector would depend on its
neighbours there; batches follow from the plan alone for that reason. (The int8 file of MiniLM holds int8 weights
and computes in float32: its vectors move by less than 1e-6 in cosine.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from pipelines.embed.batches import Tokens, embed_in_batches, kept_dimensions, padded
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.hardware import cpu_kind, versions
from pipelines.embed.models import Derived, Model
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import TokenEncoder
from pipelines.errors import GateRefused, SettingsError
from pipelines.space import ObservedMaker, RequestedMaker

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class OnnxEmbedder:
    def __init__(self, settings: EmbedSettings, requested: RequestedMaker, model: Model, derived: Derived) -> None:
        self.space = model.space
        self.maker = ObservedMaker(requested, versions("onnxruntime", "numpy", "tokenizers"), cpu_kind(),
                                   settings.batch_tokens)  # fmt: skip
        self._encoder = TokenEncoder(model.tokenizer, model.space.max_tokens)
        self._pad_id = model.config.pad_id
        self._batch_tokens = settings.batch_tokens
        self._session = _open_session(derived, settings.threads)
        self._inputs = {wanted.name for wanted in self._session.get_inputs()}
        output = self._session.get_outputs()[0]
        self._output, self._pooled = output.name, len(output.shape) == 2
        if unknown := self._inputs - _INPUTS:
            raise SettingsError(f"{derived.file} wants inputs {sorted(unknown)}; this version feeds {sorted(_INPUTS)}")
        if output.shape[-1] != model.config.dimensions or len(output.shape) not in (2, 3):
            raise GateRefused(
                f"{derived.file} gives {output.name} of shape {output.shape}, but {model.reference} has "
                f"{model.config.dimensions} dimensions; set embed.derived to a file derived from this model"
            )

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        prompt = self.space.query_prompt if role == "query" else self.space.document_prompt
        rows = self._encoder.encode(texts, prompt)
        return embed_in_batches(rows, self._batch_tokens, self.space.dimensions, self._embed_batch)

    def _embed_batch(self, rows: Sequence[Tokens]) -> Vectors:
        ids, mask = padded(rows, self._pad_id)
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        found: Vectors = self._session.run([self._output], {name: fed[name] for name in self._inputs})[0]
        vectors = found if self._pooled else _pool(found, mask, self.space.pooling)
        vectors = kept_dimensions(vectors, self.space.dimensions, normalized=False)
        if self.space.normalized:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32, copy=False)


def _pool(hidden: Vectors, mask: Tokens, pooling: str) -> Vectors:
    """float32[n, dimensions] from token embeddings float32[n, tokens, dimensions]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        last: Vectors = hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
        return last
    weights = mask[:, :, None].astype(np.float32)
    summed: Vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return summed


def _open_session(derived: Derived, threads: int) -> Any:  # Any: onnxruntime has no type information
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Batches have ever new shapes; a memory pattern per shape would only grow.
    options.enable_mem_pattern = False
    # Several workers share the cores: a thread that waits must not spin.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(derived.file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises classes of its own, without a common one
        raise SettingsError(f"{derived.file} is no model that ONNX Runtime loads ({error}); choose another") from error
