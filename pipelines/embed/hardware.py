"""The kind of hardware that computes vectors, as a short stable string. Two machines of one kind give the same bits."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The instruction sets that choose between kernels in ONNX Runtime, oneDNN and OpenBLAS.
_SIMD = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
         "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2")  # fmt: skip


@lru_cache(maxsize=1)
def cpu_kind() -> str:
    """Architecture, processor and the instruction sets that matter; without host name, clock or core count."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    except OSError:
        fields["model name"] = platform.processor()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    name = " ".join((fields.get("model name") or fields.get("CPU part") or "unknown processor").split())
    family = "/".join(fields[key] for key in ("cpu family", "model") if key in fields)
    return " ".join(
        word for word in (platform.machine(), name, family, ",".join(f for f in _SIMD if f in flags)) if word
    )


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """Installed versions by package name, in the order asked; one that is missing is ``absent``."""
    return tuple((package, _version(package)) for package in packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
