"""An int8 ONNX file from an fp32 one. Knows no models, texts or stores: token rows in, a file out.

``static``: activations' ranges are measured on a sample and written into the graph (NNCF: SmoothQuant, bias correction;
QDQ nodes, which ONNX Runtime and OpenVINO both run in int8). ``dynamic``: ONNX Runtime takes them from each batch, so that a
vector depends a little on its neighbours.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.embed.batches import Tokens
from pipelines.errors import SettingsError
from pipelines.model.extras import need

Method = Literal["static", "dynamic"]


def quantize_static(fp32: Path, rows: Sequence[Tokens], to: Path) -> None:
    """Args: ``rows`` are the token ids of the sample, int64[tokens] each; 300 rows take a minute on two cores.

    Raises:
        SettingsError: the extra is missing, or there is no sample.
    """
    need("openvino", "static quantisation", "nncf", "openvino", "onnx")
    if not rows:
        raise SettingsError("static quantisation needs a sample, and the corpus gave a text at most; check source.uri")
    import nncf
    import onnx

    nncf.set_log_level(40)  # errors; the rest is about its own choices
    model = onnx.load(fp32)
    inputs = [one.name for one in model.graph.input]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = nncf.quantize(
            model,
            nncf.Dataset([_fed(row, inputs) for row in rows]),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,  # activations asymmetric: GELU's are
            fast_bias_correction=True,
            subset_size=len(rows),
        )
    onnx.save(made, to)


def quantize_dynamic(fp32: Path, to: Path) -> None:
    """Raises SettingsError where ``onnx`` is missing, which onnxruntime's quantiser imports."""
    need("openvino", "dynamic quantisation", "onnx")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It advises a pass for graphs without shapes, which an exported one has.
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(str(fp32), str(to), per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)


def _fed(row: Tokens, inputs: Sequence[str]) -> dict[str, Any]:  # Any: NumPy arrays by input
    row = row[None, :]
    filled = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
    return {name: filled[name] for name in inputs}
