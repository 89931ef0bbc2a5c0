"""The outline of a text: where its sections, paragraphs and lines begin, fenced code left whole. Knows no tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)", re.MULTILINE)
DEPTHS = 6


@dataclass(frozen=True, slots=True)
class Outline:
    """Offsets of line starts, in order. ``headings[d]`` holds headings of at most d + 1 hashes; neither they nor
    ``paragraphs`` lie inside a fence."""

    headings: tuple[list[int], ...] = field(default_factory=lambda: tuple([] for _ in range(DEPTHS)))
    paragraphs: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def outline(text: str) -> Outline:
    found = Outline()
    fence, blank = "", False
    for at, line in _lines(text):
        found.lines.append(at)
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence, blank = "", True  # what follows the fence is a paragraph of its own
            continue
        if mark:
            fence, blank = mark[1], True
        elif heading := _HEADING.match(line):
            for depth in range(len(heading[1]) - 1, DEPTHS):
                found.headings[depth].append(at)
            blank = True
        if blank and line.strip():
            found.paragraphs.append(at)
        blank = not line.strip()
    return found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for match in _LINE.finditer(text):
        yield match.start(), match[0]
