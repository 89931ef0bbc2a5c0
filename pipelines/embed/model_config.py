"""What a sentence-transformers folder says of itself: modules, pooling, prompts, limits. Refuses what it does not
understand, because a guess would put vectors into a wrong Space. Knows no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.errors import SettingsError

_ARCHITECTURES = ("albert", "bert", "distilbert", "electra", "llama", "mistral", "modernbert", "mpnet", "qwen3",
                  "roberta", "xlm-roberta")  # fmt: skip
_POOLING = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "lasttoken": "pooling_mode_lasttoken",
}
_OLD_POOLING_KEYS = "pooling_mode_"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """``transformer`` is the folder with weights and tokenizer; ``pooling`` is mean, cls or lasttoken; ``max_tokens``
    counts special tokens. ``dimensions`` is what the modules give, of which the model's authors may have set
    ``truncate_dimensions`` to be kept (Matryoshka; ``truncate_dim`` in sentence-transformers)."""

    transformer: Path
    pooling: str
    normalized: bool
    dimensions: int
    truncate_dimensions: int | None
    max_tokens: int
    pad_id: int
    query_prompt: str
    document_prompt: str


def read_model_config(folder: Path, reference: str) -> ModelConfig:
    """Raises SettingsError naming the file and what in it is not understood."""
    modules = _read(folder / "modules.json", reference)
    types = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if types not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise _strange(
            folder / "modules.json", f"modules {types}", "Transformer, Pooling and perhaps Normalize", reference
        )
    transformer = folder / modules[0]["path"]
    config = _read(transformer / "config.json", reference)
    if config.get("model_type") not in _ARCHITECTURES or "auto_map" in config:
        raise _strange(transformer / "config.json", f"architecture {config.get('model_type')!r}"
                       + (" with code of its own" if "auto_map" in config else ""),
                       ", ".join(_ARCHITECTURES), reference)  # fmt: skip
    pooling_file = folder / modules[1]["path"] / "config.json"
    pooling, dimensions = _pooling(pooling_file, reference)
    own_file = folder / "config_sentence_transformers.json"
    own = _read(own_file, reference) if own_file.exists() else {}
    query_prompt, document_prompt = _prompts(own)
    if _read(pooling_file, reference).get("include_prompt") is False and (query_prompt or document_prompt):
        raise _strange(pooling_file, "include_prompt false", "include_prompt true", reference)
    return ModelConfig(
        transformer=transformer,
        pooling=pooling,
        normalized="Normalize" in types,
        dimensions=dimensions,
        truncate_dimensions=own.get("truncate_dim"),
        max_tokens=_max_tokens(transformer, config, reference),
        pad_id=int(config.get("pad_token_id") or 0),
        query_prompt=query_prompt,
        document_prompt=document_prompt,
    )


def _pooling(file: Path, reference: str) -> tuple[str, int]:
    """Pooling mode and dimensions; sentence-transformers wrote one boolean per mode before version 5."""
    config = _read(file, reference)
    modes = config.get("pooling_mode") or [
        key for key, on in config.items() if key.startswith(_OLD_POOLING_KEYS) and on
    ]
    modes = [modes] if isinstance(modes, str) else modes
    known = [mode for mode, old in _POOLING.items() if modes in ([mode], [old])]
    dimensions = config.get("embedding_dimension") or config.get("word_embedding_dimension")
    if not known or not isinstance(dimensions, int):
        raise _strange(file, f"pooling {modes}, dimensions {dimensions}", ", ".join(_POOLING), reference)
    return known[0], dimensions


def _prompts(config: dict[str, Any]) -> tuple[str, str]:
    """Query and document prompt, by the names that sentence-transformers' encode_query and encode_document use."""
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name"), "")
    document = next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), default)
    return str(prompts.get("query", default)), str(document)


def _max_tokens(transformer: Path, config: dict[str, Any], reference: str) -> int:
    file = transformer / "sentence_bert_config.json"
    own = _read(file, reference) if file.exists() else {}
    if own.get("do_lower_case"):
        raise _strange(file, "do_lower_case true", "a tokenizer.json that lowers case by itself", reference)
    tokenizer_config = transformer / "tokenizer_config.json"
    limit = own.get("max_seq_length") or min(
        config.get("max_position_embeddings") or 0,
        (_read(tokenizer_config, reference) if tokenizer_config.exists() else {}).get("model_max_length") or 0,
    )
    if not limit:
        raise _strange(file, "no max_seq_length", "a maximum length in tokens", reference)
    return int(limit)


def _read(file: Path, reference: str) -> Any:  # Any: whatever JSON can spell
    try:
        return orjson.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise SettingsError(
            f"embed.model {reference} lacks {file}; name the folder of a complete sentence-transformers model"
        ) from error
    except (OSError, orjson.JSONDecodeError) as error:
        raise SettingsError(f"embed.model {reference}: {file} cannot be read ({error}); pin the model again") from error


def _strange(file: Path, found: str, understood: str, reference: str) -> SettingsError:
    return SettingsError(
        f"embed.model {reference}: {file} has {found}; this version understands {understood}. Choose another model."
    )
