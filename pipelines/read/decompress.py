"""Decompression while streaming: blocks in, blocks of bounded size out. Knows no records and no stores.

Memory stays bounded whatever the ratio: a gigabyte of one letter is a few kilobytes compressed, so no call may
decompress all that it was given.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import zstandard

Compression = Literal["gzip", "zstd"]

_SUFFIXES: dict[str, Compression] = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd"}

_OUT_BYTES = 1 << 18
# zstd spells a block of 128 KiB in four bytes at best, and python-zstandard returns all that a call's input gives:
# 512 bytes are at most 16 MiB.
_ZSTD_IN_BYTES = 512
_ZSTD_BUFFER_BYTES = 1 << 15


class Damaged(Exception):
    """Compressed bytes that end early or are damaged; ``offset`` counts the decompressed bytes before.

    ``complete``: all that was compressed came out whole, and what follows it is something else.
    """

    def __init__(self, cause: str, reason: str, offset: int, *, complete: bool = False) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason
        self.offset = offset
        self.complete = complete


def compression_of(key: str) -> Compression | None:
    """By the name's ending, as everything that writes such objects names them."""
    return _SUFFIXES.get(key.rpartition(".")[2].lower())


def stem(key: str) -> str:
    """The name without folder, compression and format suffixes: ``a/guide.md.gz`` is ``guide``."""
    path = PurePosixPath(key)
    return PurePosixPath(path.stem).stem if compression_of(key) else path.stem


def decompress(key: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The plain bytes of ``blocks``, as they are when ``key`` does not say that they are compressed.

    Raises:
        Damaged: after all that could be decompressed before the damage.
    """
    compression = compression_of(key)
    if compression == "gzip":
        return _gunzip(blocks)
    return _unzstd(blocks) if compression == "zstd" else blocks


def _gunzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder, between, members, emitted = zlib.decompressobj(wbits=31), True, 0, 0
    for block in blocks:
        data, out = block, b""
        while data or len(out) == _OUT_BYTES:  # a full answer may have more behind it without more input
            if between and members:
                data = data.lstrip(b"\0")  # padding to a tape block, as gzip itself allows
                if not data:
                    break
            before = decoder.copy()
            try:
                out = decoder.decompress(data, _OUT_BYTES)
            except zlib.error as error:
                out = _until_damage(before, data)
                emitted += len(out)
                yield out
                raise _damaged("gzip", error, emitted, complete=between and members > 0) from error
            between = False
            emitted += len(out)
            if out:
                yield out
            data = decoder.unconsumed_tail
            if decoder.eof:
                data, out, between, members = decoder.unused_data, b"", True, members + 1
                decoder = zlib.decompressobj(wbits=31)
    if not between or not members:
        raise Damaged("corrupt_gzip", "the gzip stream ends early", emitted)


def _damaged(kind: Compression, error: Exception, emitted: int, *, complete: bool) -> Damaged:
    if complete:
        reason = f"is followed by bytes that are not {kind}"
    elif "data check" in str(error) or "checksum" in str(error):
        reason = "does not match its checksum: any record of it may be wrong"
    else:
        reason = f"is damaged ({error})"
    return Damaged(f"corrupt_{kind}", f"the {kind} stream {reason}", emitted, complete=complete)


def _until_damage(decoder: zlib._Decompress, data: bytes) -> bytes:
    """What the failed call would have given before the damage, byte by byte: zlib throws it away with the error."""
    found = bytearray()
    try:
        for at in range(len(data)):
            found += decoder.decompress(data[at : at + 1])
    except zlib.error:
        pass
    return bytes(found)


def _unzstd(blocks: Iterator[bytes]) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor()
    decoder, between, frames, emitted = None, True, 0, 0
    waiting: list[bytes] = []
    waiting_bytes = 0
    for block in blocks:
        data = memoryview(block)
        while data:
            if decoder is None:
                decoder = context.decompressobj(write_size=_ZSTD_BUFFER_BYTES)
            try:
                out = decoder.decompress(data[:_ZSTD_IN_BYTES])
            except zstandard.ZstdError as error:
                yield b"".join(waiting)
                raise _damaged("zstd", error, emitted, complete=between and frames > 0) from error
            unused = len(decoder.unused_data) if decoder.eof else 0
            data = data[len(data[:_ZSTD_IN_BYTES]) - unused :]
            between = decoder.eof
            if decoder.eof:
                decoder, frames = None, frames + 1
            emitted += len(out)
            waiting_bytes += len(out)
            waiting.append(out)
            if waiting_bytes >= _OUT_BYTES:
                yield b"".join(waiting)
                waiting, waiting_bytes = [], 0
    yield b"".join(waiting)
    if not between or not frames:
        raise Damaged("corrupt_zstd", "the zstd stream ends early", emitted)
