"""An object as a seekable file of ranged reads, for readers that need one. Knows no store and no format."""

from __future__ import annotations

import io
from collections.abc import Callable

from pipelines.errors import StoreError

_TAIL_BYTES = 64 << 10


class RangedFile(io.RawIOBase):
    """``fetch(start, end)`` gives the object's bytes [start, end); the tail, where footers are, is fetched once.

    ``failure`` holds the store's own error, which a foreign reader may have dressed as another.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._at = 0
        self._tail_start = max(0, size - _TAIL_BYTES)
        self._tail = b""
        self._left: int | None = None
        self.failure: StoreError | None = None

    def limit(self, max_bytes: int) -> None:
        """From here on, reading more than ``max_bytes`` before the tail raises OSError."""
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        try:
            data = self._bytes(self._at, end) if end > self._at else b""
        except StoreError as error:
            self.failure = error
            raise
        self._at += len(data)
        return data

    def _bytes(self, start: int, end: int) -> bytes:
        if start >= self._tail_start:
            self._tail = self._tail or self._fetch(self._tail_start, self._size)
            return self._tail[start - self._tail_start : end - self._tail_start]
        if self._left is not None:
            self._left -= end - start
            if self._left < 0:
                raise OSError("more bytes than the limit are needed")
        return self._fetch(start, end)
