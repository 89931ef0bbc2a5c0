"""Where a CSV record ends: newlines inside quotes belong to it. Knows bytes and quotes, no fields' values.

It follows the same rules as the csv module, piece by piece, so that the limit on a record holds before the
record is in memory; the csv module would first collect all of it.
"""

from __future__ import annotations

import enum

_QUOTE = b'"'


class _State(enum.Enum):
    FIELD_START = enum.auto()
    PLAIN = enum.auto()  # a quote here is a letter like any other
    QUOTED = enum.auto()
    QUOTE_SEEN = enum.auto()  # the end of a quoted field, or the first half of an escaped quote


class Quotes:
    """Feed it every byte of a record but the newlines; ``inside`` says whether a newline now would be text."""

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self._state = _State.FIELD_START

    @property
    def inside(self) -> bool:
        return self._state is _State.QUOTED

    def begin_record(self) -> None:
        self._state = _State.FIELD_START

    def feed(self, piece: bytes) -> None:
        at, size = 0, len(piece)
        while at < size:
            if self._state is _State.QUOTED:
                found = piece.find(_QUOTE, at)
                if found < 0:
                    return
                at, self._state = found + 1, _State.QUOTE_SEEN
            elif self._state is _State.PLAIN:
                found = piece.find(self._delimiter, at)
                if found < 0:
                    return
                at, self._state = found + 1, _State.FIELD_START
            else:
                at, self._state = at + 1, self._after(piece[at : at + 1])

    def _after(self, byte: bytes) -> _State:
        if byte == _QUOTE:
            return _State.QUOTED  # opened, or the second half of an escaped quote
        return _State.FIELD_START if byte == self._delimiter else _State.PLAIN
