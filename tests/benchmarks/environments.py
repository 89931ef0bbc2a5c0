"""Packages of peers that do not go together with ours: each set in a folder of the cache, first on a process's path.

What a set leaves out (torch, NumPy, ONNX Runtime, OpenVINO) is that of the project, so that all compute with the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.command import PROJECT
from tests.fixtures.opensearch_home import cache_folder

# sentence-transformers' extras onnx and openvino, as they resolve beside torch 2.13 with what they cannot share with us.
PACKAGES: dict[str, Sequence[str]] = {
    "st-onnx": ("sentence-transformers==5.7.0", "transformers==4.57.6", "huggingface-hub==0.36.2", "tokenizers==0.22.2",
                "optimum==2.1.0", "optimum-onnx==0.1.0"),
    "st-openvino": ("transformers==5.5.4", "huggingface-hub==1.21.0", "tokenizers==0.22.2", "optimum==2.3.0",
                    "optimum-intel==2.2.0", "openvino-tokenizers==2026.4.1.0", "httpx==0.28.1", "httpcore==1.0.9"),
    "fastembed": ("fastembed==0.9.1", "huggingface-hub==1.33.0", "loguru==0.7.3", "mmh3==5.3.1", "py-rust-stemmers==0.1.8",
                  "httpx==0.28.1", "httpcore==1.0.9"),
}  # fmt: skip


def environment_folder(name: str) -> Path:
    """Installed at the first call, which needs a package index."""
    folder = cache_folder() / "benchmark-environments" / name
    done = folder / ".complete"
    wanted = "\n".join(PACKAGES[name])
    if not done.exists() or done.read_text() != wanted:
        uv = PROJECT / ".venv" / "bin" / "uv"
        subprocess.run([str(uv), "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--target", str(folder),
                        *PACKAGES[name]], check=True)  # fmt: skip
        done.write_text(wanted)
    return folder
