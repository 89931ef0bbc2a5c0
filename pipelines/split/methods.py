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

_TRIES = 3

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
        whole = _trimmed(text, (0, len(text)))
        if whole is None:
            return []
        if tokens.fit(0, len(text), budget_tokens) and self._count(text, whole) <= budget_tokens:
            return [whole]
        # A tokenizer may spell the beginning of a cut word, or a word without the blank before it, in more tokens
        # than within the text. Then all spans are cut shorter by as much: even ones are better than full and tiny.
        levels, aim = self._levels(text), budget_tokens
        for _ in range(_TRIES):
            overlap = min(self._overlap_tokens, aim // 2)
            ranges = _Cutter(tokens, levels, aim, overlap).cut((0, len(text)))
            spans = _once([span for found in ranges if (span := _trimmed(text, found))])
            excess = max((self._count(text, span) for span in spans), default=0) - budget_tokens
            if excess <= 0:
                return spans
            aim = max(1, aim - excess)
        return [exact for span in spans for exact in self._halves(text, span, tokens, budget_tokens)]

    def _halves(self, text: str, span: Span, tokens: Tokens, budget: int) -> Iterator[Span]:
        """The span, or its halves until they fit or cannot be cut."""
        middle = tokens.middle(span.start, span.end) if self._count(text, span) > budget else None
        if middle is None:
            yield span
            return
        for half in ((span.start, middle), (middle, span.end)):
            if inner := _trimmed(text, half):
                yield from self._halves(text, inner, tokens, budget)

    def _count(self, text: str, span: Span) -> int:
        return len(self._spans(text[span.start : span.end]))


def _once(spans: Sequence[Span]) -> list[Span]:
    """Without those that the next one holds: where blanks are many, windows that overlap may begin with one word."""
    return [
        span for span, then in zip(spans, [*spans[1:], None], strict=True) if then is None or then.start > span.start
    ]


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
