"""Embed with ONNX Runtime on the CPU. Knows one model and its file; knows no documents.

A dynamically quantised file takes activation ranges from the whole batch, so a vector would depend on its
neighbours there; batches follow from the plan alone for that reason. (The int8 file of MiniLM holds int8 weights
and computes in float32: its vectors move by less than 1e-6 in cosine.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from pipelines.embed.embedder import TokenIds, Vectors
from pipelines.embed.hardware import cpu_kind, versions
from pipelines.embed.models import Derived, Model
from pipelines.embed.onnx_file import describe
from pipelines.errors import SettingsError

_SHORT = np.zeros(2, dtype=np.int32)


class OnnxRuntime:
    def __init__(self, threads: int, model: Model, derived: Derived) -> None:
        self.versions = versions("onnxruntime", "numpy", "tokenizers")
        self.hardware = cpu_kind()
        self.under_way = 1
        self.multiple = 1
        self._session = _open_session(derived, threads)
        output = self._session.get_outputs()[0]
        self._output = output.name
        self._file = describe(derived, model, [wanted.name for wanted in self._session.get_inputs()], output.shape)

    def submit(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        fed = self._file.feed(rows)
        found = self._session.run([self._output], {name: fed[name] for name in self._file.inputs})[0]
        return lambda: self._file.vectors(found, fed["attention_mask"])

    def release_memory(self) -> None:
        """The session keeps what it has allocated, but for a run that is told to let go of it at its end."""
        letting_go = onnxruntime.RunOptions()
        letting_go.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        fed = self._file.feed([_SHORT])
        self._session.run([self._output], {name: fed[name] for name in self._file.inputs}, letting_go)


def _open_session(derived: Derived, threads: int) -> Any:  # Any: onnxruntime has no type information
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Batches have ever new shapes; a memory pattern per shape would only grow.
    options.enable_mem_pattern = False
    # Several workers share the cores: a thread that waits must not spin.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(derived.file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises classes of its own, without a common one
        raise SettingsError(f"{derived.file} is no model that ONNX Runtime loads ({error}); choose another") from error
