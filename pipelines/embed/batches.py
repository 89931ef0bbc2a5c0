"""Which texts form an embedding batch, and how a batch is padded. Pure functions; knows no model.

A batch follows from the lengths and the token budget alone. Vectors depend on the batch they were computed in
(padding changes the order of sums; dynamically quantised models take their activation ranges from the whole
batch), so nothing about timing, resumption or hardware may enter here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.embed.embedder import Vectors

Tokens = NDArray[np.int64]


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


def padded(rows: Sequence[Tokens], pad_id: int) -> tuple[Tokens, Tokens]:
    """Token ids and attention mask, both int64[len(rows), longest]."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def embed_in_batches(rows: Sequence[Tokens], batch_tokens: int, dimensions: int,
                     embed_batch: Callable[[Sequence[Tokens]], Vectors]) -> Vectors:  # fmt: skip
    """float32[len(rows), dimensions], row i for rows[i], computed batch by batch."""
    vectors = np.empty((len(rows), dimensions), dtype=np.float32)
    for batch in token_batches([len(row) for row in rows], batch_tokens):
        vectors[batch] = embed_batch([rows[i] for i in batch])
    return vectors


def kept_dimensions(vectors: Vectors, dimensions: int, *, normalized: bool) -> Vectors:
    """float32[n, dimensions]: the leading components, of length 1 again where the Space is ``normalized`` (Matryoshka:
    Kusupati et al., NeurIPS 2022). As they are where there are no more of them."""
    if vectors.shape[1] == dimensions:
        return vectors
    kept = vectors[:, :dimensions]
    return kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12) if normalized else kept
