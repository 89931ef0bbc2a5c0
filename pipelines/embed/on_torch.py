"""Embed with a sentence-transformers model, on a GPU where there is one, in fp32, bf16 or fp16. Knows no documents.

The model's own modules run, as in ``encode()``; tokens, batches and attention are ours: batches follow from the plan,
and where the model takes it, texts lie one behind the other without padding.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.embed.batches import kept_dimensions, padded
from pipelines.embed.embedder import TokenIds, Vectors
from pipelines.embed.hardware import cpu_kind, versions
from pipelines.embed.models import Model
from pipelines.embed.tokens import ModelTokenizer
from pipelines.errors import GateRefused, SettingsError
from pipelines.space import RequestedMaker

# All are read when the libraries are first imported or the GPU is first used.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Several workers share the cores: a thread that waits must not spin (beside two busy processes on two cores, five times
# the rate).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with a fixed workspace only

try:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.utils import logging as transformers_logging

    from pipelines.embed import packed
except ImportError as missing:
    raise SettingsError(
        f"backend torch needs {missing.name}, which the base install leaves out; run `make setup` "
        "(or install the extra `torch`), or use embed.backend: onnx"
    ) from missing

AttentionInterface.register(packed.NAME, packed.attend)
AttentionMaskInterface.register(packed.NAME, packed.no_mask)

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PROBE = "Tokenizers agree: naïve Ångström 北京 don't re-index 1,000.50 €?"
_ALIKE = 5e-5  # of the largest component: what another order of sums moves in fp32

log = logging.getLogger(__name__)


class TorchRuntime:
    """Sets torch's thread count and deterministic algorithms for the whole process, which it has to itself."""

    def __init__(self, requested: RequestedMaker, model: Model) -> None:
        torch.set_num_threads(requested.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("highest")
        self.versions = versions("torch", "sentence-transformers", "transformers", "numpy", "tokenizers")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        on_gpu = self._device.type == "cuda"
        self.hardware = torch.cuda.get_device_name(self._device) if on_gpu else cpu_kind()
        # A GPU has the next batch while the last one's vectors are copied; a processor would gain nothing.
        self.under_way = 2 if on_gpu else 1
        self.multiple = 1
        if requested.precision == "fp16" and not on_gpu:
            raise SettingsError(
                "embed.precision fp16 needs a GPU, and torch finds none here; set embed.precision: bf16"
            )
        self._space = model.space
        self._pad_id = model.config.pad_id
        self._type = _TYPES[requested.precision]
        self._model = _open_model(model, self._device)
        self._after = list(self._model)[1:]  # pooling and what follows it
        probes = _must_tokenise_alike(self._model, model)
        self.submit: Callable[[Sequence[TokenIds]], Callable[[], Vectors]] = self._submit_padded
        self._pack(probes)
        self._model[0].to(self._type)  # pooling and what follows stay in fp32: they add hundreds of numbers

    def release_memory(self) -> None:
        """What PyTorch keeps of a GPU for batches to come."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _submit_padded(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        ids, mask = padded(rows, self._pad_id)
        features = {
            "input_ids": self._sent(torch.from_numpy(ids)),
            "attention_mask": self._sent(torch.from_numpy(mask)),
        }
        with torch.inference_mode():
            hidden = self._model[0](features)
            return self._finish(hidden["token_embeddings"], hidden["attention_mask"])

    def _submit_packed(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        """``rows`` from the longest to the shortest, as batches are."""
        lengths = [len(row) for row in rows]
        flat = torch.cat([torch.from_numpy(row) for row in rows])
        at = torch.cat([torch.arange(length) for length in lengths])
        transformer = self._model[0].auto_model
        with torch.inference_mode():
            layout = packed.layout_of(lengths, transformer.config.num_attention_heads, self._device, transformer.dtype)
            ids, positions = self._sent(flat)[None], self._sent(at + self._first_position)[None]
            hidden = transformer(input_ids=ids, position_ids=positions, packed=layout).last_hidden_state[0]
            return self._finish(*packed.unpacked(hidden, lengths))

    def _finish(self, hidden: torch.Tensor, mask: torch.Tensor) -> Callable[[], Vectors]:
        """Pooling and what follows it, by the model's own modules in fp32; then the way back."""
        features = {"token_embeddings": hidden.float(), "attention_mask": mask}
        for module in self._after:
            features = module(features)
        vectors = features["sentence_embedding"]
        if self._device.type == "cpu":
            found = self._kept(vectors.numpy())
            return lambda: found
        returned = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        returned.copy_(vectors, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> Vectors:
            done.synchronize()
            return self._kept(returned.numpy())

        return wait

    def _kept(self, vectors: Vectors) -> Vectors:
        return kept_dimensions(vectors, self._space.dimensions, normalized=self._space.normalized)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device; a GPU goes on computing while it is copied."""
        return tensor if self._device.type == "cpu" else tensor.pin_memory().to(self._device, non_blocking=True)

    def _pack(self, probes: Sequence[TokenIds]) -> None:
        """Go without padding where every token attends to its whole text, and the model gives the same vectors so: not
        every family hands our layout through. The model is in fp32 as yet, where a difference shows."""
        transformer: Any = getattr(self._model[0], "auto_model", None)
        if transformer is None or not _attends_to_all(transformer.config):
            return
        own, expected = transformer.config._attn_implementation, self._submit_padded(probes)()
        self._first_position = _first_position(transformer)
        try:
            transformer.set_attn_implementation(packed.NAME)
            found = self._submit_packed(probes)()
            said = f"vectors differ by {np.abs(found - expected).max() / np.abs(expected).max():.1g}"
            if np.allclose(found, expected, rtol=0, atol=_ALIKE * float(np.abs(expected).max())):
                self.submit = self._submit_packed
                return
        except Exception as error:  # whatever a model's code says to something that it does not expect
            said = f"{type(error).__name__}: {error}"
        log.info("attention without padding does not suit this model (%s); texts are padded", said[:200])
        transformer.set_attn_implementation(own)


def _must_tokenise_alike(opened: Any, model: Model) -> list[TokenIds]:
    """Tokens of some texts, the longest first. transformers may build its tokenizer from other files than
    tokenizer.json, or in another way."""
    tokenizer = ModelTokenizer(model.tokenizer, model.space.tokenizer)
    texts = [_PROBE * (model.space.max_tokens // 16), _PROBE * 3, _PROBE, "short"]
    ours = tokenizer.ids(texts, "", model.space.max_tokens)
    theirs = opened.tokenizer(_PROBE)["input_ids"]
    if theirs != ours[2].tolist():
        raise GateRefused(
            f"model {model.reference}: tokenizer.json and transformers cut a text into different tokens "
            f"({ours[2].tolist()} and {theirs}), so its vectors would not be those of encode(); choose another model"
        )
    return sorted(ours, key=len, reverse=True)


def _attends_to_all(config: Any) -> bool:
    """Neither backwards only nor to a window."""
    windows = any(getattr(config, name, None) for name in ("sliding_window", "local_attention"))
    return not windows and not getattr(config, "is_decoder", False) and not getattr(config, "use_sliding_window", False)


def _first_position(transformer: Any) -> int:
    """RoBERTa and its descendants count positions from behind the padding's."""
    padding = getattr(getattr(transformer, "embeddings", None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def _open_model(model: Model, device: torch.device) -> Any:  # Any: untyped at this border
    transformers_logging.disable_progress_bar()
    opened = SentenceTransformer(
        str(model.folder),
        device=str(device),
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )
    opened.eval()
    return opened
