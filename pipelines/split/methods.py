"""Which splitter serves which ``split.method``: levels of ever finer cuts, and token windows below them all.

To add one: give it its levels, and a line in METHODS.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence

from pipelines.document import Span
from pipelines.split.outline import outline
from pipelines.split.sentences import sentence_starts
from pipelines.split.splitter import Method, SplitSettings, Splitter, TokenSpans
from pipelines.split.tokens import Tokens

Range = tuple[int, int]
Level = tuple[Sequence[int], bool]
"""Offsets where a text may be cut, in order, and whether chunks cut there repeat whole pieces of the one before."""


def no_levels(text: str) -> list[Level]:
    return []


def sentence_levels(text: str) -> list[Level]:
    return [(sentence_starts(text), True)]


def outline_levels(text: str) -> list[Level]:
    """Sections of each depth, paragraphs, lines, sentences. What another heading says is no context to repeat."""
    found = outline(text)
    sections: list[Level] = [(headings, False) for headings in found.headings]
    return [*sections, (found.paragraphs, True), (found.lines, True), (sentence_starts(text), True)]


METHODS: dict[Method, Callable[[str], list[Level]]] = {
    "tokens": no_levels,
    "sentences": sentence_levels,
    "recursive": outline_levels,
}


def open_splitter(settings: SplitSettings, spans: TokenSpans) -> Splitter:
    if settings.method == "none":
        return WholeText()
    return LevelSplitter(METHODS[settings.method], spans, settings.overlap_tokens)


class WholeText:
    def split(self, text: str, budget_tokens: int) -> list[Span]:
        return [span] if (span := _trimmed(text, (0, len(text)))) else []


class LevelSplitter:
    """Cuts at the coarsest level that makes pieces fit, and packs neighbours as long as they fit together."""

    def __init__(self, levels: Callable[[str], list[Level]], spans: TokenSpans, overlap_tokens: int) -> None:
        self._levels = levels
        self._spans = spans
        self._overlap_tokens = overlap_tokens

    def split(self, text: str, budget_tokens: int) -> list[Span]:
        tokens = Tokens(text, self._spans)
        if tokens.fit(0, len(text), budget_tokens):
            ranges: Iterator[Range] = iter([(0, len(text))])
        else:
            overlap = min(self._overlap_tokens, budget_tokens // 2)
            cutter = _Cutter(tokens, self._levels(text), budget_tokens, overlap)
            ranges = (exact for found in cutter.cut((0, len(text)))
                      for exact in self._exact(text, found, tokens, budget_tokens))  # fmt: skip
        return [span for found in ranges if (span := _trimmed(text, found))]

    def _exact(self, text: str, found: Range, tokens: Tokens, budget: int) -> Iterator[Range]:
        """The range, or its halves when it has more tokens on its own than it had within the text: a tokenizer
        may spell the beginning of a cut word, or a word without the blank before it, in another way."""
        span = _trimmed(text, found)
        if span and len(self._spans(text[span.start : span.end])) > budget:
            middle = tokens.middle(span.start, span.end)
            if middle is not None:
                yield from self._exact(text, (found[0], middle), tokens, budget)
                yield from self._exact(text, (middle, found[1]), tokens, budget)
                return
        yield found


class _Cutter:
    def __init__(self, tokens: Tokens, levels: list[Level], budget: int, overlap: int) -> None:
        self._tokens = tokens
        self._levels = levels
        self._budget = budget
        self._overlap = overlap

    def cut(self, found: Range, level: int = 0) -> Iterator[Range]:
        """Ranges that fit and cover ``found``, cut at ``level`` or finer ones."""
        for number in range(level, len(self._levels)):
            offsets, repeats = self._levels[number]
            inner = offsets[bisect_right(offsets, found[0]) : bisect_left(offsets, found[1])]
            if inner:
                bounds = [found[0], *inner, found[1]]
                yield from self._pack(bounds, self._overlap if repeats else 0, number + 1)
                return
        yield from self._tokens.windows(*found, self._budget, self._overlap)

    def _pack(self, bounds: list[int], overlap: int, finer: int) -> Iterator[Range]:
        """Neighbouring pieces [bounds[i], bounds[i + 1]) together as long as they fit; the last whole ones of a
        range, up to ``overlap`` tokens, begin the next. A piece that does not fit alone is cut finer."""
        begin = fresh = 0  # the open range begins with piece ``begin``; from ``fresh`` on no range holds its pieces
        last = len(bounds) - 1
        for i in range(last):
            if not self._fit(bounds[i], bounds[i + 1]):
                if fresh < i:
                    yield bounds[begin], bounds[i]
                yield from self.cut((bounds[i], bounds[i + 1]), finer)
                begin = fresh = i + 1
            elif not self._fit(bounds[begin], bounds[i + 1]):
                yield bounds[begin], bounds[i]
                begin = fresh = i
                while self._repeatable(bounds, begin - 1, i, overlap):
                    begin -= 1
        if fresh < last:
            yield bounds[begin], bounds[last]

    def _repeatable(self, bounds: list[int], begin: int, i: int, overlap: int) -> bool:
        # A range that ended before piece i did not fit together with it, so this ends before its first piece.
        return self._tokens.fit(bounds[begin], bounds[i], overlap) and self._fit(bounds[begin], bounds[i + 1])

    def _fit(self, start: int, end: int) -> bool:
        return self._tokens.fit(start, end, self._budget)


def _trimmed(text: str, found: Range) -> Span | None:
    """Without blanks at its edges; None when nothing else is in it."""
    piece = text[found[0] : found[1]]
    inner = piece.strip()
    if not inner:
        return None
    start = found[0] + len(piece) - len(piece.lstrip())
    return Span(start, start + len(inner))
