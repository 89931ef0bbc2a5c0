"""On what a benchmark ran, and where its figures go."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
import psutil

RESULTS = Path(__file__).parent / "results"
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
_PACKAGES = ("numpy", "obstore", "pyarrow", "onnxruntime", "torch", "sentence-transformers", "lancedb", "opensearch-py")


def describe_machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in info.splitlines())}
    flags = set(lines.get("flags", "").split())
    return {
        "cpu": lines.get("model name", platform.processor()),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """``results/<name>.json`` beside the benchmarks: machine, day and figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    value = {"measured": datetime.now(UTC).date().isoformat(), "machine": describe_machine(), **figures}
    path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
