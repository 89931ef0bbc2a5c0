"""Which texts form an embedding batch, how a batch is padded, and how many are under way. Knows no model.

A batch follows from the lengths and the token budget alone. Vectors depend on the batch they were computed in
(padding changes the order of sums; dynamically quantised models take their activation ranges from the whole
batch), so nothing about timing, resumption or hardware may enter here, but a memory that does not hold the budget:
what was embedded with less is marked (``Budget.reduced``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.embed.embedder import TokenIds, Vectors
from pipelines.poison import is_out_of_memory

Tokens = NDArray[np.int64]
# Starts one batch, and gives what waits for its vectors, float32[len(rows), dimensions].
Submit = Callable[[Sequence[TokenIds]], Callable[[], Vectors]]
_PATIENCE = 100  # batches that must fit before more is tried; twice as many after each time that it was too much

log = logging.getLogger(__name__)


class Budget:
    """Tokens of one batch, padding included: ``asked``, or fewer where memory refused more. Lives as long as its
    embedder, so that each device and model learns its own once.

    What is refused is halved, so that five refusals find what a thirty-second of the budget takes. After many batches
    that fitted, half as much again is tried, and given up for longer if it is refused.
    """

    def __init__(self, asked: int) -> None:
        self.asked = asked
        self.tokens = asked
        self.refusals = 0
        self._held = 0  # a budget under which many batches fitted
        self._fitted, self._patience = 0, _PATIENCE

    @property
    def reduced(self) -> bool:
        return self.tokens < self.asked

    def refuse(self, tokens: int) -> None:
        """Memory did not hold a batch of so many tokens."""
        self.refusals += 1
        self._fitted, self._patience = 0, self._patience * 2
        refused = min(self.tokens, tokens)
        self.tokens = self._held if 0 < self._held < refused else max(1, refused // 2)
        log.warning("out of memory with a batch of %d tokens; going on with %d (embed.batch_tokens is %d)",
                    tokens, self.tokens, self.asked)  # fmt: skip

    def fit(self) -> None:
        """Memory held a batch."""
        if not self.reduced:
            return
        self._fitted += 1
        if self._fitted >= self._patience:
            self._held, self._fitted = self.tokens, 0
            self.tokens = min(self.asked, self.tokens * 3 // 2 + 1)


def token_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of ``lengths`` in batches of similar length, the longest first, ties in order.

    A batch padded to its longest text holds at most ``batch_tokens`` tokens; a text over it stands alone.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    room = 0  # texts that the open batch still takes
    for i in order:
        if room == 0:
            batches.append([])
            room = max(1, batch_tokens // max(1, lengths[i]))
        batches[-1].append(i)
        room -= 1
    return batches


def padded(rows: Sequence[TokenIds], pad_id: int, multiple: int = 1) -> tuple[Tokens, Tokens]:
    """Token ids and attention mask, both int64[len(rows), longest], the longest rounded up to a multiple."""
    longest = -(-max(len(row) for row in rows) // multiple) * multiple
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def embed_in_batches(rows: Sequence[TokenIds], budget: Budget, dimensions: int, submit: Submit, under_way: int = 1,
                     release_memory: Callable[[], None] = lambda: None, multiple: int = 1) -> Vectors:  # fmt: skip
    """float32[len(rows), dimensions], row i for rows[i].

    Args:
        multiple: of which the lengths of padded batches are; then there are few shapes of batches.
        under_way: batches that are started before the first one's vectors are waited for.
        release_memory: called after memory was refused, when no batch is under way.

    Raises:
        Exception: what ``submit`` raised; out of memory only where a single text is too much.
    """
    vectors = np.empty((len(rows), dimensions), dtype=np.float32)
    todo = deque(_batches_of(rows, range(len(rows)), budget.tokens, multiple))
    started: deque[tuple[list[int], Callable[[], Vectors]]] = deque()

    def finish() -> tuple[list[int], Exception] | None:
        batch, wait = started.popleft()
        try:
            vectors[batch] = wait()
        except Exception as error:
            return batch, error
        budget.fit()
        return None

    def start() -> tuple[list[int], Exception] | None:
        batch = todo.popleft()
        try:
            started.append((batch, submit([rows[i] for i in batch])))
        except Exception as error:
            return batch, error
        return None

    while todo or started:
        failed = start() if todo and len(started) < under_way else finish()
        if failed is None:
            continue
        batches = [
            _too_large(*failed),
            *(_too_large(*other) for other in [finish() for _ in range(len(started))] if other),
        ]
        del failed  # an error holds on to what its batch took
        budget.refuse(max(len(batch) * max(len(rows[i]) for i in batch) for batch in batches))
        release_memory()
        left = [i for batch in (*batches, *todo) for i in batch]
        todo = deque(_batches_of(rows, left, budget.tokens, multiple))
    return vectors


def _too_large(batch: list[int], error: Exception) -> list[int]:
    """The batch, which smaller ones are made of. Raises ``error`` where memory is not to blame, or nothing is smaller."""
    if len(batch) == 1 or not is_out_of_memory(error):
        raise error
    return batch


def _batches_of(rows: Sequence[TokenIds], chosen: Sequence[int], batch_tokens: int, multiple: int) -> list[list[int]]:
    batches = token_batches([-(-len(rows[i]) // multiple) * multiple for i in chosen], batch_tokens)
    return [[chosen[at] for at in batch] for batch in batches]


def kept_dimensions(vectors: Vectors, dimensions: int, *, normalized: bool) -> Vectors:
    """float32[n, dimensions]: the leading components, of length 1 again where the Space is ``normalized`` (Matryoshka:
    Kusupati et al., NeurIPS 2022). As they are where there are no more of them."""
    if vectors.shape[1] == dimensions:
        return vectors
    kept = vectors[:, :dimensions]
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12) if normalized else kept
