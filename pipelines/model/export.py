"""The ONNX file of a model, fp32, from sentence-transformers' own modules: pooling and normalisation are inside the graph.
Knows no stores and no cards.

Inputs ``input_ids`` and ``attention_mask``, int64[n, tokens]; output ``sentence_embedding``, float32[n, dimensions]; n and
tokens are free. Token types are left out: those of a single text are all zero, which is what models take without them.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.embed.models import Model
from pipelines.errors import GateRefused, SettingsError
from pipelines.model.extras import need

os.environ.setdefault("HF_HUB_OFFLINE", "1")
need("torch", "the ONNX file of a model", "torch", "sentence_transformers", "onnx", "onnxscript")

import onnx  # noqa: E402  # after the check, whose message names the extra
import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

_OPSET = 18  # the exporter's own; ONNX Runtime and OpenVINO read it without conversion
_MAX_BYTES = 2_000_000_000  # protobuf holds no more in one file
_ONE_FILE_IN_FP32 = f"{_MAX_BYTES / 4e6:,.0f} million parameters"


def export_onnx(model: Model, to: Path) -> None:
    """Write the model's ONNX file. The same model and versions give the same bytes.

    Raises:
        SettingsError: torch, sentence-transformers, onnx or onnxscript are missing, or the model is too big for one file.
        GateRefused: the exporter does not understand the model.
    """
    opened = open_plain(model)
    if sum(parameter.numel() for parameter in opened.parameters()) * 4 > _MAX_BYTES:
        raise SettingsError(
            f"{model.reference} is too big for one ONNX file (at most {_ONE_FILE_IN_FP32}); use embed.backend: torch"
        )
    rows, tokens = (
        torch.export.Dim("rows", min=1, max=65_536),
        torch.export.Dim("tokens", min=1, max=model.space.max_tokens),
    )
    ids = torch.ones((2, 7), dtype=torch.int64)  # neither 0 nor 1, which the exporter would take for constants
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    free = {0: rows, 1: tokens}
    try:
        with torch.inference_mode(), _quiet():
            torch.onnx.export(
                _Graph(opened),
                (ids, mask),
                str(to),
                input_names=["input_ids", "attention_mask"],
                output_names=["sentence_embedding"],
                dynamic_shapes={"input_ids": free, "attention_mask": free},
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises classes of many libraries
        raise GateRefused(
            f"{model.reference} cannot be exported ({type(error).__name__}: {str(error).strip().splitlines()[0]}); "
            "use embed.backend: torch"
        ) from error
    _strip(to)


def open_plain(model: Model) -> Any:  # Any: sentence-transformers is untyped at this border
    """The model as sentence-transformers loads it, in fp32 on the CPU."""
    transformers_logging.disable_progress_bar()
    options = {"dtype": torch.float32, "use_safetensors": True, "attn_implementation": "eager"}
    opened = SentenceTransformer(
        str(model.folder), device="cpu", local_files_only=True, trust_remote_code=False, model_kwargs=options
    )
    return opened.eval()


class _Graph(torch.nn.Module):  # type: ignore[misc]  # torch is untyped at this border
    """The modules in a row, from tensors to a tensor."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self.row = modules

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.row({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]


def _strip(file: Path) -> None:
    """Leave out where in this machine's files each node comes from: it would make other bytes on another machine."""
    made = onnx.load(file)
    for graph_or_node in (made, made.graph, *made.graph.node, *made.graph.value_info, *made.graph.initializer,
                          *made.graph.input, *made.graph.output):  # fmt: skip
        del graph_or_node.metadata_props[:]
        graph_or_node.doc_string = ""
    onnx.save(made, file)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about libraries that this model does not use."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
