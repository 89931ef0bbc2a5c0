"""Embed with OpenVINO on the CPU, from the same ONNX files as ONNX Runtime. Knows one model and its file; knows no
documents.

Where a processor has them, int8 files use VNNI or AMX, and bf16 uses AVX-512 BF16 or AMX.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipelines.embed.embedder import TokenIds, Vectors
from pipelines.embed.hardware import cpu_kind, versions
from pipelines.embed.models import Derived, Model
from pipelines.embed.onnx_file import OnnxFile, describe
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
_MULTIPLE_OF_ONE = 8  # several queries at once are few: what they are filled up with costs as much as they do
_PLANNED = (16, 24, 32, 48, 64)  # tokens; the 300 queries of SciFact and 2,000 of MedQuAD in the tests have no more
_MOST_PLANNED = 128 << 20  # bytes of a file: each plan takes about as much memory, and a larger model gains less
_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE_BLOCK = 256 << 10  # bytes

log = logging.getLogger(__name__)


class OpenVinoRuntime:
    """As many batches at once as threads, each on a thread of its own: they never wait for one another. ``single``: one
    batch at once, of all threads, for the soonest answer; a text alone by the plan for its length."""

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
        few = single and derived.file.stat().st_size <= _MOST_PLANNED and _takes_any_length(compiled)
        self._plans = self._planned(model.space.max_tokens) if few else []

    def submit(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        if len(rows) == 1:
            for plan in self._plans:
                if len(rows[0]) <= plan.tokens:
                    return partial(plan.vectors, rows[0])
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

    def _planned(self, most: int) -> list[_Plan]:
        try:
            return [_Plan(self._compile(tokens), self._file, tokens) for tokens in _PLANNED if tokens <= most]
        except SettingsError as error:  # it loads as it is, and has one length written into it somewhere
            log.info("queries have no plans of their own: %s", error)
            return []

    def _ready(self) -> Any:  # Any: OpenVINO's types are its own
        compiled = self._compile()
        self._free.extend(compiled.create_infer_request() for _ in range(self.under_way))
        return compiled


class _Plan:
    """The model for one text of at most so many tokens, its inputs and outputs allocated once. With no shape left to work
    out a query of 20 tokens takes 2.4 ms and not 4 (MiniLM int8, two cores)."""

    def __init__(self, compiled: Any, file: OnnxFile, tokens: int) -> None:
        self.tokens = tokens
        self._file = file
        self._request = compiled.create_infer_request()
        self._fed = {name: np.zeros((1, tokens), dtype=np.int64) for name in file.inputs}
        for name, values in self._fed.items():
            self._request.set_tensor(name, openvino.Tensor(values, shared_memory=True))

    def vectors(self, row: TokenIds) -> Vectors:
        """float32[1, dimensions]"""
        fed = self._file.feed([row], self.tokens)
        for name, values in self._fed.items():
            values[:] = fed[name]
        self._request.infer()
        return self._file.vectors(self._request.get_output_tensor(0).data, fed["attention_mask"])


def _return_what_is_freed() -> None:
    """From now on the process gives large blocks back as it frees them.

    glibc raises the size from which it does so to that of the largest block freed, up to 32 MB (mallopt(3),
    M_MMAP_THRESHOLD), and what is smaller stays with the process, in pieces that fit no later batch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _takes_any_length(compiled: Any) -> bool:
    return all(wanted.partial_shape[1].is_dynamic for wanted in compiled.inputs)


def _compile(derived: Derived, requested: RequestedMaker, tokens: int | None = None, *, single: bool) -> Any:
    """``tokens``: for one text filled up to so many; None: for any batch."""
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
        core = openvino.Core()
        model = core.read_model(str(derived.file))
        if tokens is not None:
            model.reshape({wanted.get_any_name(): [1, tokens] for wanted in model.inputs})
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise SettingsError(f"{derived.file} is no model that OpenVINO loads ({error}); choose another") from error
