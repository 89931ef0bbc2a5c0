"""A listed object as a seekable file, each read one conditional ranged request. Knows no format."""

from __future__ import annotations

import io

from pipelines.errors import StoreError
from pipelines.partition import Slice
from pipelines.read.conditional import read_range
from pipelines.store import Store


class RangedFile(io.RawIOBase):
    """``failure`` holds the store's own error, which a foreign reader may have dressed as another."""

    def __init__(self, store: Store, piece: Slice) -> None:
        self._store = store
        self._piece = piece
        self._at = 0
        self.failure: StoreError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._piece.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._piece.size if size is None or size < 0 else self._at + size
        try:
            data = read_range(self._store, self._piece, self._at, end)
        except StoreError as error:
            self.failure = error
            raise
        self._at += len(data)
        return data
