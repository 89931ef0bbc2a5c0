"""CSV and TSV: a header, then a row a record. Knows no field's meaning.

The dialect is RFC 4180 read strictly: quotes are doubled, and a row that departs from it is a reject.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.document import Position
from pipelines.partition import Slice
from pipelines.read.conditional import read_range
from pipelines.read.decompress import Damaged
from pipelines.read.framing import BOM, Frame, read_frames, sample_of, split_records, too_large
from pipelines.read.quoting import Quotes
from pipelines.read.reader import Broken, Record, SourceSettings
from pipelines.store import Store

_HEADER_BYTES = 1 << 16

# The csv module refuses fields over 128 KiB unless told otherwise, for the whole process. Here the limit is
# source.max_document_bytes, enforced before the module sees the row.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True, slots=True)
class _Header:
    names: tuple[str, ...]
    end: int  # offset of the byte after it: what lies before holds no rows


class Delimited:
    def __init__(self, source: SourceSettings, delimiter: str) -> None:
        self.cuttable = not source.quoted_newlines
        self._quoted_newlines = source.quoted_newlines
        self._max_bytes = source.max_document_bytes
        self._delimiter = delimiter
        wanted = source.fields
        named = (wanted.id, wanted.title, wanted.text, wanted.uri, wanted.doc_type, wanted.date, wanted.tenant)
        self._declared = {*named, *wanted.metadata}

    def read(self, store: Store, piece: Slice) -> Iterator[Record | Broken]:
        header = self._header_before(store, piece) if piece.start else None
        if isinstance(header, Broken):
            yield header
            return
        try:
            for frame in read_frames(store, piece, self._max_bytes, self._quotes()):
                if header is None:
                    header = self._header(piece.key, frame)
                    if isinstance(header, Broken):
                        yield header
                        return
                elif frame.offset >= header.end and (found := self._parse(piece.key, frame, header)) is not None:
                    yield found
        except Damaged as damage:
            yield Broken(Position(piece.key, damage.offset), damage.cause, damage.reason)

    def _quotes(self) -> Quotes | None:
        return Quotes(self._delimiter.encode()) if self._quoted_newlines else None

    def _header_before(self, store: Store, piece: Slice) -> _Header | Broken:
        """The header of an object of which only a later range is read."""
        ask = _HEADER_BYTES
        while True:
            data = read_range(store, piece, 0, ask)
            for frame in split_records(iter([data]), offset=0, end=None, max_bytes=self._max_bytes):
                whole = frame.offset + frame.size < len(data) or len(data) == piece.size
                if (whole or frame.too_large) and (header := self._header(piece.key, frame)) is not None:
                    return header
            if len(data) == piece.size or ask > self._max_bytes:
                return Broken(Position(piece.key, 0), "broken_row", "the object has no header line")
            ask *= 8

    def _header(self, key: str, frame: Frame) -> _Header | Broken | None:
        """None for a blank line before the header."""
        row = self._row(key, frame)
        if row is None or isinstance(row, Broken):
            return row
        twice = sorted({name for name in row if name in self._declared and row.count(name) > 1})
        if twice:
            reason = f"the header names {', '.join(map(repr, twice))} twice"
            return Broken(Position(key, frame.offset), "broken_row", reason, sample_of(frame.data))
        return _Header(tuple(row), frame.offset + frame.size)

    def _parse(self, key: str, frame: Frame, header: _Header) -> Record | Broken | None:
        row = self._row(key, frame)
        if row is None or isinstance(row, Broken):
            return row
        position = Position(key, frame.offset)
        if len(row) != len(header.names):
            reason = f"the row has {len(row)} fields and the header {len(header.names)}"
            return Broken(position, "broken_row", reason, sample_of(frame.data))
        return Record(position, dict(zip(header.names, row, strict=True)))

    def _row(self, key: str, frame: Frame) -> list[str] | Broken | None:
        """The fields; None for a blank line."""
        position, data = Position(key, frame.offset), frame.data
        if frame.too_large or frame.unclosed:
            hint = "; it opens a quote that is never closed" if frame.unclosed else ""
            cause = "too_large" if frame.too_large else "broken_row"
            reason = too_large(frame, self._max_bytes) if frame.too_large else f"the row has {frame.size:,} bytes"
            return Broken(position, cause, reason + hint, sample_of(data))
        data = data.removeprefix(BOM) if frame.offset == 0 else data
        if not data.strip():
            return None
        try:
            return next(csv.reader([data.decode("utf-8")], delimiter=self._delimiter, strict=True))
        except UnicodeDecodeError as error:
            reason = f"byte {error.start} of the row is not UTF-8 ({error.reason})"
            return Broken(position, "encoding", reason, sample_of(data))
        except csv.Error as error:
            return Broken(position, "broken_row", f"the row is not {_name(self._delimiter)}: {error}", sample_of(data))


def _name(delimiter: str) -> str:
    return "TSV" if delimiter == "\t" else "CSV"
