"""Vectors of the rows of one part, and which rows have none: a text that no embedder takes is a reject, and the rest
of the part is embedded without it. Knows no parts or stores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.document import Chunk
from pipelines.embed.embedder import Embedder, TextsRefused, Vectors
from pipelines.errors import GateRefused
from pipelines.ledger import Ledger
from pipelines.poison import blame_document
from pipelines.rejects import Reject, Rejects

_HOPELESS = 32  # so many rows without one sound vector are no fault of theirs
_HARMLESS = "A text like any other."


def embed_sound(embedder: Embedder, rows: Sequence[Chunk], ledger: Ledger, rejects: Rejects,
                dtype: str = "float32") -> tuple[Sequence[Chunk], Vectors]:  # fmt: skip
    """The rows that have a finite vector which is not zero, and ``dtype`` [len(rows), dimensions] of them.

    A row for which the embedder raises when it is alone, too, is left out before the others are embedded. So their
    batches follow from the remaining texts, on every attempt, machine and engine alike.

    Raises:
        GateRefused: not one of many rows has a sound vector: the model is broken.
        Exception: what the embedder raised, where no single text is to blame for it.
    """
    try:
        vectors = _embed(embedder, rows)
    except TextsRefused as refused:
        rows, vectors = _without(rows, refused, embedder.space.max_tokens, ledger, rejects)
    except BaseException as error:
        blame_document(error, "embedding")
        poison = _culprits(embedder, rows)
        if not poison or (len(poison) == len(rows) > _HOPELESS) or not _works(embedder):
            raise
        for row, reason in poison:
            rejects.add(_reject("poison_chunk", row, reason), row.document.doc_type)
            ledger.no_vector(row.document.doc_type, min(row.tokens, embedder.space.max_tokens))
        guilty = {id(row) for row, _ in poison}
        rows = [row for row in rows if id(row) not in guilty]
        vectors = _embed(embedder, rows)
    with np.errstate(over="ignore"):  # what float16 cannot hold is infinite, and told as that
        vectors = vectors.astype(dtype, copy=False)
    return _only_sound(rows, vectors, embedder.space.max_tokens, ledger, rejects)


def _embed(embedder: Embedder, rows: Sequence[Chunk]) -> Vectors:
    ids = [row.ids for row in rows if row.ids is not None]
    return embedder.embed([row.input for row in rows], "document", ids if len(ids) == len(rows) else None)


def _without(rows: Sequence[Chunk], refused: TextsRefused, max_tokens: int, ledger: Ledger,
             rejects: Rejects) -> tuple[Sequence[Chunk], Vectors]:  # fmt: skip
    """The rows that the embedder took, with their vectors."""
    for number, reason in sorted(refused.reasons.items()):
        row = rows[number]
        rejects.add(_reject("poison_chunk", row, f"embedding chunk {row.ordinal}: {reason}"), row.document.doc_type)
        ledger.no_vector(row.document.doc_type, min(row.tokens, max_tokens))
    taken = [number for number in range(len(rows)) if number not in refused.reasons]
    return [rows[number] for number in taken], refused.vectors[taken]


def _culprits(embedder: Embedder, rows: Sequence[Chunk]) -> list[tuple[Chunk, str]]:
    """Which rows the embedder cannot take alone, and what it says, found by halving."""
    try:
        _embed(embedder, rows)
    except BaseException as error:
        reason = blame_document(error, f"embedding chunk {rows[0].ordinal}")
        if len(rows) == 1:
            return [(rows[0], reason)]
        middle = len(rows) // 2
        return _culprits(embedder, rows[:middle]) + _culprits(embedder, rows[middle:])
    return []


def _works(embedder: Embedder) -> bool:
    try:
        embedder.embed([_HARMLESS], "document")
    except BaseException as error:
        blame_document(error, "embedding")
        return False
    return True


def _only_sound(rows: Sequence[Chunk], vectors: Vectors, max_tokens: int, ledger: Ledger,
                rejects: Rejects) -> tuple[Sequence[Chunk], Vectors]:  # fmt: skip
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    zero = finite & ~vectors.any(axis=1)
    sound = finite & ~zero
    if sound.all():
        return rows, vectors
    unsound: list[int] = np.flatnonzero(~sound).tolist()
    if len(unsound) == len(rows) > _HOPELESS:
        raise GateRefused(
            f"the embedder gave no sound vector for {len(rows)} texts in a row, the first of document "
            f"{rows[0].document.id!r} at {rows[0].document.position}: {_kind(zero[0])}. "
            "Check the model with `backhaul doctor CONF`; another precision may help"
        )
    for i in unsound:
        row, doc_type = rows[i], rows[i].document.doc_type
        ledger.bad_vector(row.document.position.key, doc_type, zero=bool(zero[i]))
        ledger.no_vector(doc_type, min(row.tokens, max_tokens))
        rejects.add(_reject("bad_vector", row, f"the embedder gave {_kind(zero[i])} for chunk {row.ordinal}"), doc_type)
    return [rows[i] for i in np.flatnonzero(sound).tolist()], vectors[sound]


def _kind(zero: bool) -> str:
    return "zero" if zero else "NaN or infinity"


def _reject(cause: str, chunk: Chunk, reason: str) -> Reject:
    return Reject(cause, reason, str(chunk.document.position), chunk.document.id, chunk.text[:200])
