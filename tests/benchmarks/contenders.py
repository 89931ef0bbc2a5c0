"""Who takes part in the benchmark of embedding, with which settings. Loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Contender:
    """``program`` is a function of ``contender.py`` that gives an embed function; ``options`` are its own, ``batches`` the
    batch sizes that it chooses from on a sample before it is timed. ``environment`` names one of ``environments.py``."""

    name: str
    program: str
    options: Mapping[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] = ()
    environment: str | None = None
    precision: str = "fp32"

    @property
    def ours(self) -> bool:
        return self.program == "backhaul"


REFERENCE = Contender("encode(), defaults", "encode", {"precision": "fp32"}, batches=(32,))


def contenders(device: str) -> list[Contender]:
    return _on_processors() if device == "cpu" else _on_gpus()


def _on_processors() -> list[Contender]:
    few, many = (8, 16, 32, 64), (32, 64, 128)
    return [
        REFERENCE,
        Contender("encode(), bf16, best batch", "encode", {"precision": "bf16"}, many, precision="bf16"),
        Contender("encode(), ONNX, best batch", "encode", {"backend": "onnx"}, many, "st-onnx"),
        Contender("encode(), ONNX int8, best batch", "encode", {"backend": "onnx", "precision": "int8"}, many, "st-onnx", "int8"),
        Contender("encode(), OpenVINO, best batch", "encode", {"backend": "openvino"}, many, "st-openvino", "bf16"),
        Contender("FastEmbed, defaults", "fastembed", {"file": "fp32"}, (256,), "fastembed"),
        Contender("FastEmbed, int8, best batch", "fastembed", {"file": "int8"}, (16, 64, 256), "fastembed", "int8"),
        Contender("ONNX Runtime by hand, fp32", "onnx_by_hand", {"file": "fp32"}, few),
        Contender("ONNX Runtime by hand, int8", "onnx_by_hand", {"file": "int8"}, few, precision="int8"),
        Contender("OpenVINO by hand, bf16", "openvino_by_hand", {"file": "fp32", "hint": "bf16"}, few, precision="bf16"),
        Contender("OpenVINO by hand, int8", "openvino_by_hand", {"file": "int8"}, few, precision="int8"),
        _ours("torch", "fp32"),
        _ours("torch", "bf16"),
        *(_ours("onnx", precision) for precision in ("fp32", "int8")),
        *(_ours("openvino", precision) for precision in ("fp32", "bf16", "int8")),
    ]  # fmt: skip


def _on_gpus() -> list[Contender]:
    batches = (32, 128, 512, 1024)
    return [
        REFERENCE,
        Contender("encode(), fp16, best batch", "encode", {"precision": "fp16"}, batches, precision="fp16"),
        Contender("encode(), bf16, best batch", "encode", {"precision": "bf16"}, batches, precision="bf16"),
        *(_ours("torch", precision, batch_tokens=65_536) for precision in ("fp32", "bf16", "fp16")),
    ]


def _ours(backend: str, precision: str, **settings: Any) -> Contender:
    options = {"backend": backend, "precision": precision, **settings}
    if backend != "torch":
        options["file"] = "int8" if precision == "int8" else "fp32"
    return Contender(f"Backhaul, {backend} {precision}", "backhaul", options, precision=precision)
