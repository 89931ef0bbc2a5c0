"""Records framed by newlines: blocks in, one frame per record out, the records of a byte range alone.

Knows nothing of what a record holds. A record over the limit is passed over without being kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from pipelines.partition import Slice
from pipelines.read.conditional import stream_from
from pipelines.read.decompress import Damaged, decompress
from pipelines.read.quoting import Quotes
from pipelines.store import Store

BOM = b"\xef\xbb\xbf"
_SAMPLE_BYTES = 800  # 200 characters of four bytes
_LINE_ENDING = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One record without its line ending. ``size`` counts all its bytes; ``data`` is only their beginning when
    ``too_large``. ``unclosed``: the object ends inside quotes that this record opened."""

    offset: int
    data: bytes
    size: int
    too_large: bool = False
    unclosed: bool = False


def read_frames(store: Store, piece: Slice, max_bytes: int, quotes: Quotes | None = None) -> Iterator[Frame]:
    """The records whose first byte lies in the slice; offsets count decompressed bytes from the object's start.

    Raises:
        Damaged: compressed bytes end early or are damaged; after the whole records before.
        SourceChanged: the object is not the listed one.
    """
    start, blocks = 0, decompress(piece.key, stream_from(store, piece, max(0, piece.start - 1)))
    if piece.start:
        # The byte before tells whether the range begins with a record; the newline sought may be that byte.
        start, blocks = _next_record(blocks, piece.start - 1, piece.end)
    yield from split_records(blocks, offset=start, end=piece.end, max_bytes=max_bytes, quotes=quotes)


def split_records(
    blocks: Iterator[bytes], *, offset: int, end: int | None, max_bytes: int, quotes: Quotes | None = None
) -> Iterator[Frame]:
    """Frames of the records that begin in [offset, end); ``blocks`` begins with a record at ``offset``."""
    if end is not None and offset >= end:
        return
    record = _Record(offset, max_bytes, quotes)
    try:
        for block in blocks:
            at = 0
            while at < len(block):
                newline = block.find(b"\n", at)
                stop = newline + 1 if newline >= 0 else len(block)
                ended = record.add(block[at:stop], newline=newline >= 0)
                at = stop
                if ended:
                    yield record.take()
                    if end is not None and record.offset >= end:
                        return
    except Damaged as damage:
        if damage.complete and record.size:
            yield record.take()
        raise
    if record.size:
        yield record.take()


class _Record:
    """The record being collected, or passed over once it is over the limit."""

    def __init__(self, offset: int, max_bytes: int, quotes: Quotes | None) -> None:
        self.offset = offset
        self.size = 0
        self._kept = bytearray()
        self._max_bytes = max_bytes
        self._quotes = quotes

    def add(self, piece: bytes, *, newline: bool) -> bool:
        """Take a piece that ends with the block or with a newline; whether the record ends with it."""
        self.size += len(piece)
        if self.size <= self._max_bytes + _LINE_ENDING:
            self._kept += piece
        else:
            self._kept = (self._kept[:_SAMPLE_BYTES] + piece[:_SAMPLE_BYTES])[:_SAMPLE_BYTES]
        if self._quotes is None:
            return newline
        self._quotes.feed(piece[:-1] if newline else piece)
        return newline and not self._quotes.inside

    def take(self) -> Frame:
        """The record as it stands; the next one begins behind it."""
        data = bytes(self._kept).removesuffix(b"\n").removesuffix(b"\r")
        unclosed = self._quotes is not None and self._quotes.inside
        large = self.size > self._max_bytes + _LINE_ENDING or len(data) > self._max_bytes
        frame = Frame(self.offset, data[:_SAMPLE_BYTES] if large else data, self.size, large, unclosed)
        self.offset, self.size, self._kept = self.offset + self.size, 0, bytearray()
        if self._quotes is not None:
            self._quotes.begin_record()
        return frame


def _next_record(blocks: Iterator[bytes], offset: int, end: int | None) -> tuple[int, Iterator[bytes]]:
    """Where the first record after the next newline begins, and the bytes from there on."""
    for block in blocks:
        newline = block.find(b"\n")
        if newline >= 0:
            return offset + newline + 1, chain([block[newline + 1 :]], blocks)
        offset += len(block)
        if end is not None and offset >= end:
            break
    return offset, iter(())


def sample_of(data: bytes) -> str:
    """At most 200 characters, for the rejects file."""
    return data[:_SAMPLE_BYTES].decode("utf-8", errors="replace")[:200]


def too_large(frame: Frame, max_bytes: int) -> str:
    """The reason of a reject."""
    return f"the record has {frame.size:,} bytes and source.max_document_bytes is {max_bytes:,}"
