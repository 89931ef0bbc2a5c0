"""An Embedder that computes on this machine: tokens, batches and budget are the same whatever runtime multiplies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from pipelines.embed.batches import Budget, embed_in_batches
from pipelines.embed.embedder import Role, TokenIds, Vectors
from pipelines.embed.models import Model
from pipelines.embed.tokens import ModelTokenizer
from pipelines.space import ObservedMaker, RequestedMaker


class Runtime(Protocol):
    """A loaded model. ``versions`` and ``hardware`` go into the Maker; ``under_way`` batches keep it busy, whose lengths it
    wants to be of a ``multiple``."""

    versions: tuple[tuple[str, str], ...]
    hardware: str
    under_way: int
    multiple: int

    def submit(self, rows: Sequence[TokenIds]) -> Callable[[], Vectors]:
        """Start one batch, its texts from the longest to the shortest; what is returned waits for its vectors,
        float32[len(rows), dimensions] as the Space has them. Called from one thread."""

    def release_memory(self) -> None:
        """Let go of what is kept for batches to come. No batch is under way."""


class LocalEmbedder:
    """``maker`` is that of the latest call: where memory made the batches smaller, its parts are marked."""

    def __init__(self, model: Model, requested: RequestedMaker, runtime: Runtime) -> None:
        self.space = model.space
        self._model = model
        self._observed = ObservedMaker(requested, runtime.versions, runtime.hardware, requested.batch_tokens)
        self.maker = self._observed
        self._tokenizer = ModelTokenizer(model.tokenizer, model.space.tokenizer)
        self._budget = Budget(requested.batch_tokens)
        self._runtime = runtime

    def with_batch_tokens(self, batch_tokens: int) -> LocalEmbedder:
        """The same loaded model with batches of another size."""
        return LocalEmbedder(self._model, replace(self._observed.requested, batch_tokens=batch_tokens), self._runtime)

    def embed(self, texts: Sequence[str], role: Role, ids: Sequence[TokenIds] | None = None) -> Vectors:
        if ids is None:
            ids = self._tokenizer.ids(texts, self.space.prompt(role), self.space.max_tokens)
        reduced = self._budget.reduced
        vectors = embed_in_batches(ids, self._budget, self.space.dimensions, self._runtime.submit,
                                   self._runtime.under_way, self._runtime.release_memory, self._runtime.multiple)  # fmt: skip
        reduced = reduced or self._budget.reduced
        self.maker = self._observed.reduced_to(self._budget.tokens) if reduced else self._observed
        return vectors
