"""Where the tokens of a text lie, and where it may be cut between them. Knows no sentences and no budget of a run."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from pipelines.split.splitter import TokenSpans

_PIECE_CHARS = 1 << 14
# A tokenizer may give one token for a whole blob of base64; an index would not take such a chunk.
_MAX_CHARS_PER_TOKEN = 64


class Tokens:
    """The tokens of ``text``, found in pieces of bounded size: a tokenizer may be quadratic in a long word, and
    sixteen bytes a token are what a long text can afford."""

    def __init__(self, text: str, spans: TokenSpans) -> None:
        self._text = text
        self._starts = array("q")
        self._whole = bytearray()  # 1: the token begins where all before it have ended, so a cut there splits none
        reached = 0
        for offset, piece in _pieces(text):
            for start, end in spans(piece):
                if end > start:
                    self._whole.append(offset + start >= reached)
                    self._starts.append(max(offset + start, self._starts[-1] if self._starts else 0))
                    reached = max(reached, offset + end)

    def count(self, start: int, end: int) -> int:
        """Tokens that begin in the characters [start, end)."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def fit(self, start: int, end: int, budget: int) -> bool:
        return end - start <= budget * _MAX_CHARS_PER_TOKEN and self.count(start, end) <= budget

    def windows(self, start: int, end: int, budget: int, overlap: int) -> Iterator[tuple[int, int]]:
        """Ranges of at most ``budget`` tokens that cover [start, end), each repeating about ``overlap`` tokens.

        Edges lie between words where a word ends in the window's last quarter. A token longer than the
        budget's characters is a window of its own.
        """
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        left = start
        while True:
            stop = self._window_end(first, last, budget)
            if stop >= last:
                yield left, end
                return
            yield left, self._starts[stop]
            first = self._overlap_start(first, stop, overlap)
            left = self._starts[first]

    def middle(self, start: int, end: int) -> int | None:
        """A cut near the middle of [start, end); None when there is none."""
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        wanted = sorted(range(first + 1, last), key=lambda i: abs(2 * i - first - last))
        cuts = [i for i in wanted if self._whole[i] and self._starts[i] > start]
        return self._starts[next((i for i in cuts if self._at_word(i)), cuts[0])] if cuts else None

    def _window_end(self, first: int, last: int, budget: int) -> int:
        """The token after a window that begins with ``first``."""
        if first >= last:
            return last
        stop = min(first + budget, bisect_left(self._starts, self._starts[first] + budget * _MAX_CHARS_PER_TOKEN))
        if stop >= last:
            return last
        stop = max(stop, first + 1)
        for i in range(stop, max(first, stop - budget // 4), -1):
            if self._whole[i] and self._at_word(i):
                return i
        for i in range(stop, first, -1):
            if self._whole[i]:
                return i
        return next((i for i in range(stop, last) if self._whole[i]), last)

    def _overlap_start(self, first: int, stop: int, overlap: int) -> int:
        """The token that the window after the one of [first, stop) begins with."""
        earliest = max(first + 1, stop - overlap)
        reach = self._starts[stop] - overlap * _MAX_CHARS_PER_TOKEN
        cuts = [i for i in range(earliest, stop) if self._whole[i] and self._starts[i] >= reach]
        return next((i for i in cuts if self._at_word(i)), cuts[0] if cuts else stop)

    def _at_word(self, i: int) -> bool:
        at = self._starts[i]
        return at == 0 or self._text[at - 1].isspace() or self._text[at].isspace()


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """(offset, piece): cut behind the last blank of each stretch, or anywhere in one without blanks."""
    at = 0
    while len(text) - at > _PIECE_CHARS:
        limit = at + _PIECE_CHARS
        blank = max(text.rfind(" ", at, limit), text.rfind("\n", at, limit), text.rfind("\t", at, limit))
        stop = blank + 1 if blank > at else limit
        yield at, text[at:stop]
        at = stop
    yield at, text[at:]
