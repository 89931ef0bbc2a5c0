"""The Reader seam: the records of one slice of an object. Knows one format; knows no documents' meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipelines.document import Position
from pipelines.partition import Slice
from pipelines.store import StorageSettings, Store

Format = Literal["jsonl", "csv", "tsv", "parquet", "text", "markdown"]
MetadataType = Literal["keyword", "number", "date", "boolean"]


class FieldsSettings(BaseModel):
    """Which field of a record holds what. ``id`` null: the relative key and the record's offset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str | None = Field("id", description="the document's stable id; null: relative key and offset")
    title: str | None = Field("title", description="the title; null: none")
    text: str = Field("text", description="the text")
    uri: str | None = Field(None, description="where the document lives; null: the relative key")
    doc_type: str | None = Field(None, description="the document type")
    date: str | None = Field(None, description="an ISO 8601 date")
    tenant: str | None = Field(None, description="the tenant that ids are scoped by")
    metadata: tuple[str, ...] | dict[str, MetadataType] = Field(
        (), description="further scalar fields to keep: names, or names with types (keyword, number, date, boolean)"
    )

    @field_validator("metadata")
    @classmethod
    def _plain_where_plain(
        cls, found: tuple[str, ...] | dict[str, MetadataType]
    ) -> tuple[str, ...] | dict[str, MetadataType]:
        """Names alone say the same as names that are all keywords, and must make the same run."""
        return tuple(found) if set(found.values() if isinstance(found, dict) else ()) <= {"keyword"} else found

    @property
    def metadata_types(self) -> dict[str, MetadataType]:
        """Of every metadata field. A keyword may hold any scalar, kept as it is and compared as a word."""
        return dict(self.metadata) if isinstance(self.metadata, dict) else dict.fromkeys(self.metadata, "keyword")


class SourceSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(description="a prefix or one object: s3://, file:/// or memory://")
    format: Format = Field(
        "jsonl", description="jsonl | csv | tsv | parquet | text | markdown; .gz and .zst are unpacked"
    )
    include: tuple[str, ...] = Field(("**",), description="globs of relative keys to read")
    exclude: tuple[str, ...] = Field((), description="globs of relative keys to leave out")
    on_duplicate: Literal["fail", "first"] = Field(
        "fail", description="what a second document of the same id does: fail the run, or be dropped"
    )
    fields: FieldsSettings = FieldsSettings()
    storage: StorageSettings = StorageSettings()
    max_document_bytes: int = Field(
        16 << 20, ge=1024, description="stored bytes of one record; a longer one is rejected"
    )
    quoted_newlines: bool = Field(
        True, description="csv, tsv: quotes may hold newlines, which forbids cutting an object into ranges"
    )
    encoding: Literal["utf-8"] = Field("utf-8", description="of every text format")


@dataclass(frozen=True, slots=True)
class Record:
    """One parsed record: a mapping of field names, as the format gives it."""

    position: Position
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that could not be parsed. ``cause`` is a short fixed word (see pipelines.rejects), ``reason``
    says what was found; ``sample`` is at most 200 characters of it, for the rejects file."""

    position: Position
    cause: str
    reason: str
    sample: str = ""


class Reader(Protocol):
    """Streams in bounded memory: never more than one record of ``max_document_bytes`` plus a few blocks."""

    cuttable: bool  # whether a big object may be cut into ranges

    def read(self, store: Store, piece: Slice) -> Iterator[Record | Broken]:
        """Records whose first byte (row group) lies in the slice, in order.

        Reads are conditional on the listed ETag. Raises SourceChanged when the object differs from the
        listing or is gone; anything wrong *inside* an object is yielded as Broken, and what follows is read
        where the format allows it (a corrupt gzip or truncated Parquet ends with one Broken).
        """
