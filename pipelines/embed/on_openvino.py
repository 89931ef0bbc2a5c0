"""Embed with OpenVINO on the CPU, from the same ONNX files as ONNX Runtime. Knows one model and its file; knows no
documents.

Where a processor has them, int8 files use VNNI or AMX, and bf16 uses AVX-512 BF16 or AMX.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pipelines.embed.embedder import TokenIds, Vectors
from pipelines.embed.hardware import cpu_kind, versions
from pipelines.embed.models import Derived, Model
from pipelines.embed.onnx_file import describe
from pipelines.errors import SettingsError
from pipelines.poison import is_out_of_memory
from pipelines.space import RequestedMaker

try:
    import openvino
except ImportError as missing:
    raise SettingsError(
        f"backend openvino needs {missing.name}, which the base install leaves out; run `make setup` "
        "(or install the extra `openvino`), or use embed.backend: onnx"
    ) from missing

# For each new shape of a batch OpenVINO prepares its kernels anew.
_MULTIPLE = 16
_MULTIPLE_OF_ONE = 8  # a single text is all that fills a batch, and what it is filled up with costs as much
_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE_BLOCK = 256 << 10  # bytes


class OpenVinoRuntime:
    """As many batches at once as threads, each on a thread of its own: they never wait for one another. ``single``: one
    batch at once, of all threads, for the soonest answer."""

    def __init__(self, requested: RequestedMaker, model: Model, derived: Derived, *, single: bool = False) -> None:
        self.versions = versions("openvino", "numpy", "tokenizers")
        self.hardware = cpu_kind()
        self.under_way = 1 if single else requested.threads
        multiple = _MULTIPLE_OF_ONE if single else _MULTIPLE
        self.multiple = multiple if model.space.max_tokens % multiple == 0 else 1
        self._compile = partial(_compile, derived, requested, single=single)
        self._free: deque[Any] = deque()
        compiled = self._ready()
        shape = [side.get_length() if side.is_static else None for side in compiled.outputs[0].partial_shape]
        self._file = describe(derived, model, [wanted.get_any_name() for wanted in compiled.inputs], shape)

    def submit(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        fed = self._file.feed(rows, self.multiple)
        request = self._free.popleft()

        def wait() -> Vectors:
            try:
                request.wait()
                return self._file.vectors(request.get_output_tensor(0).data, fed["attention_mask"])
            finally:
                self._free.append(request)

        try:
            request.start_async({name: fed[name] for name in self._file.inputs}, share_inputs=True)
        except BaseException:
            self._free.append(request)
            raise
        return wait

    def release_memory(self) -> None:
        """A compiled model keeps what its largest batches took, and what one that ran out of memory still computes is
        not to be trusted; a new one has none of it."""
        _return_what_is_freed()
        self._free.clear()
        self._ready()

    def _ready(self) -> Any:  # Any: OpenVINO's types are its own
        compiled = self._compile()
        self._free.extend(compiled.create_infer_request() for _ in range(self.under_way))
        return compiled


def _return_what_is_freed() -> None:
    """From now on the process gives large blocks back as it frees them.

    glibc raises the size from which it does so to that of the largest block freed, up to 32 MB (mallopt(3),
    M_MMAP_THRESHOLD), and what is smaller stays with the process, in pieces that fit no later batch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _compile(derived: Derived, requested: RequestedMaker, *, single: bool) -> Any:  # Any: OpenVINO's types are its own
    options = {
        "INFERENCE_NUM_THREADS": requested.threads,
        "NUM_STREAMS": 1 if single else requested.threads,
        # What an int8 file leaves in floats is at most as exact as its int8; processors without bf16 take fp32 for it.
        "INFERENCE_PRECISION_HINT": "f32" if requested.precision == "fp32" else "bf16",
        "ENABLE_CPU_PINNING": False,  # several workers share the cores
    }
    if single:
        # Of files with int8 weights alone it would take activations to int8 as well, which moves each vector on its own:
        # the cosine to fp32 of 200 queries was 0.9989 at the least so, and is 0.9993, at a fifth more time.
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    try:
        return openvino.Core().compile_model(str(derived.file), "CPU", options)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise SettingsError(f"{derived.file} is no model that OpenVINO loads ({error}); choose another") from error
