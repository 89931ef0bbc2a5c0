"""Plain text and Markdown: one object is one document. Knows where a title may be found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pipelines.document import Position
from pipelines.partition import Slice
from pipelines.read.conditional import stream_from
from pipelines.read.decompress import Damaged, decompress, stem
from pipelines.read.framing import BOM, sample_of
from pipelines.read.reader import Broken, Record, SourceSettings
from pipelines.store import Store

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#[ \t]+")


class WholeObject:
    """Gives the fields id (the relative key), title and text, which the settings need not name."""

    cuttable = False

    def __init__(self, source: SourceSettings, title_of: Callable[[str], str | None]) -> None:
        self._max_bytes = source.max_document_bytes
        self._title_of = title_of

    def read(self, store: Store, piece: Slice) -> Iterator[Record | Broken]:
        if piece.start:
            return
        position = Position(piece.key, 0)
        kept, damage = bytearray(), None
        try:
            for block in decompress(piece.key, stream_from(store, piece)):
                kept += block
                if len(kept) > self._max_bytes:
                    reason = f"the object has more than the {self._max_bytes:,} bytes of source.max_document_bytes"
                    yield Broken(position, "too_large", reason, sample_of(bytes(kept[:800])))
                    return
        except Damaged as error:
            damage = error
        if damage is None or damage.complete:
            yield self._parse(position, bytes(kept))
        if damage is not None:
            yield Broken(position, damage.cause, damage.reason)

    def _parse(self, position: Position, data: bytes) -> Record | Broken:
        try:
            text = data.removeprefix(BOM).decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"byte {error.start} is not UTF-8 ({error.reason})"
            return Broken(position, "encoding", reason, sample_of(data))
        key = position.key
        return Record(position, {"id": key, "title": self._title_of(text) or stem(key), "text": text})


def no_title(text: str) -> None:
    """Plain text does not say which of its lines is a title."""


def markdown_title(text: str) -> str | None:
    """The first first-level heading (``# …``) outside fenced code."""
    fence = ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (heading := _HEADING.match(line)) and (title := _without_closing(line[heading.end() :])):
            return title
    return None


def _without_closing(heading: str) -> str:
    """Without the hashes that may close it. Not by an expression: one would be quadratic in a long line of blanks."""
    heading = heading.rstrip(" \t")
    opened = heading.rstrip("#")
    return opened.rstrip(" \t") if opened.endswith((" ", "\t")) else heading
