"""Embedding as one would write it by hand, and by other libraries. Each function gives an embed function, texts and a batch
size to float32[len(texts), dimensions], and knows nothing of Backhaul.

A folder is a sentence-transformers model; ``work`` is one to write copies of it to.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

Embed = Callable[[Sequence[str], int], Any]  # texts, batch size
MAX_TOKENS = 256


def encode(folder: Path, work: Path, device: str, threads: int, *, backend: str = "torch",
           precision: str = "fp32") -> Embed:  # fmt: skip
    """sentence-transformers, with its backends as its documentation has them ("Speeding up Inference")."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    options: dict[str, Any] = {"device": device, "backend": backend, "local_files_only": True}
    if backend == "torch":
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        options["model_kwargs"] = {"dtype": kinds[precision]}
    elif backend == "onnx":
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = threads
        folder = Path(shutil.copytree(folder, work / "model"))
        options["model_kwargs"] = {"session_options": session, "provider": "CPUExecutionProvider"}
        if precision == "int8":
            from sentence_transformers import export_dynamic_quantized_onnx_model

            exported = SentenceTransformer(str(folder), **options)
            exported.save_pretrained(str(folder))
            export_dynamic_quantized_onnx_model(exported, "avx512_vnni", str(folder))
            options["model_kwargs"]["file_name"] = "model_qint8_avx512_vnni.onnx"
    else:
        options["model_kwargs"] = {"ov_config": {"INFERENCE_NUM_THREADS": str(threads)}}
    model = SentenceTransformer(str(folder), **options)
    return lambda texts, batch: model.encode(list(texts), batch_size=batch)


def fastembed(folder: Path, work: Path, device: str, threads: int, *, file: str) -> Embed:
    """FastEmbed with a model of one's own, whose ONNX file pools by itself. ``file`` is the ONNX file."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    folder = Path(shutil.copytree(folder, work / "model"))
    (folder / "model.onnx").symlink_to(file)
    settings = folder / "tokenizer_config.json"  # its limit, where the folder's own is elsewhere
    settings.write_bytes(orjson.dumps({**orjson.loads(settings.read_bytes()), "model_max_length": MAX_TOKENS}))
    TextEmbedding.add_custom_model(model="own/minilm", pooling=PoolingType.DISABLED, normalization=True, dim=384,
                                   sources=ModelSource(hf="own/minilm"), model_file="model.onnx")  # fmt: skip
    model = TextEmbedding("own/minilm", specific_model_path=str(folder), threads=threads, local_files_only=True)
    return lambda texts, batch: np.array(list(model.embed(texts, batch_size=batch)))


def onnx_by_hand(folder: Path, work: Path, device: str, threads: int, *, file: str) -> Embed:
    """The tokenizer in batch, texts sorted by length, one session with all threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    tokenizer = _tokenizer(folder)

    def embed(texts: Sequence[str], size: int) -> Any:
        rows, found = _tokenised(tokenizer, texts), np.empty((len(texts), 384), dtype=np.float32)
        for batch in _sorted_batches(rows, size):
            found[batch] = session.run(None, _fed([rows[i] for i in batch]))[0]
        return found

    return embed


def openvino_by_hand(
    folder: Path, work: Path, device: str, threads: int, *, file: str, hint: str | None = None
) -> Embed:
    """The same with OpenVINO's throughput mode and its queue of requests. Without ``hint`` its own choice of precision."""
    import openvino

    options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads}
    options |= {"INFERENCE_PRECISION_HINT": hint} if hint else {}
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(file, "CPU", options))
    tokenizer = _tokenizer(folder)

    def embed(texts: Sequence[str], size: int) -> Any:
        rows, found = _tokenised(tokenizer, texts), np.empty((len(texts), 384), dtype=np.float32)

        def keep(request: Any, batch: list[int]) -> None:
            found[batch] = request.get_output_tensor(0).data

        queue.set_callback(keep)
        for batch in _sorted_batches(rows, size):
            queue.start_async(_fed([rows[i] for i in batch]), batch)
        queue.wait_all()
        return found

    return embed


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def _tokenised(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return [each.ids for each in tokenizer.encode_batch_fast(list(texts))]


def _sorted_batches(rows: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _fed(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The folder's padding token is 0."""
    ids = np.zeros((len(rows), len(rows[0])), dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
