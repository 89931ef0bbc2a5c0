"""Documents and the chunks they are cut into, with their digests. Knows neither formats nor vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.digest import digest_bytes, digest_of

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record came from: relative key, and byte offset (row number for Parquet)."""

    key: str
    offset: int

    def __str__(self) -> str:
        return f"{self.key}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Document:
    """One record of the source. ``id`` is stable and scoped by ``tenant``; ``uri`` is the relative key or a
    declared field; ``date`` is an ISO 8601 day or instant; ``metadata`` holds the declared fields."""

    id: str
    uri: str
    title: str
    text: str
    position: Position
    doc_type: str | None = None
    date: str | None = None
    tenant: str | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a document's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One row. ``input`` is exactly what is embedded; ``tokens`` counts it, special tokens included and
    before any truncation. ``ids`` are the input's, int32 and cut at the model's limit, where its embedder takes ids."""

    document: Document
    ordinal: int
    text: str
    span: Span
    input: str
    tokens: int
    ids: NDArray[np.int32] | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """From tenant, document id, ordinal and text digest; 32 hex digits."""
        d = self.document
        return digest_of([d.tenant, d.id, self.ordinal, digest_bytes(self.text.encode())])[:32]

    @property
    def input_digest(self) -> str:
        """Key of vector reuse: the exact embedded text. 64 hex digits."""
        return digest_bytes(self.input.encode())

    def row(self) -> dict[str, Any]:
        """The fields an index keeps and ``row_digest`` covers."""
        d = self.document
        return {
            "id": self.id,
            "document_id": d.id,
            "tenant": d.tenant,
            "uri": d.uri,
            "title": d.title,
            "doc_type": d.doc_type,
            "date": d.date,
            "metadata": d.metadata,
            "ordinal": self.ordinal,
            "text": self.text,
            "start": self.span.start,
            "end": self.span.end,
            "tokens": self.tokens,
        }


ROW_FIELDS = ("id", "document_id", "tenant", "uri", "title", "doc_type", "date", "metadata",
              "ordinal", "text", "start", "end", "tokens")  # fmt: skip


def row_digest(row: dict[str, Any]) -> str:
    """SHA-256 over the fields of ``Chunk.row`` in canonical JSON: nothing about where the row came from.

    ``row`` may hold more fields; an absent one counts as null.
    """
    return digest_of([row.get(name) for name in ROW_FIELDS])
