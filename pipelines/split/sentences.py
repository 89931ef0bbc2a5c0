"""Where sentences begin. Knows no tokens.

An own rule rather than a library: chunk ids and vectors hang on every boundary, so an upgraded model of sentences
would re-embed every corpus, and a splitter must be linear in texts that no library was made for.
"""
# ruff: noqa: RUF001, SIM905  # marks of several scripts are the matter here, and long lists of words

from __future__ import annotations

import re

# Possessive, and begun only at the first mark of a run: no text makes this quadratic.
_END = re.compile(
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s)"""  # a mark, what closes behind it, a blank
    r"|(?<![。！？｡])[。！？｡]++[」』”’）]*+"  # Chinese and Japanese marks need no blank
    r"|(?<!\n)\n(?:[^\S\n]*+\n)++"  # a blank line ends whatever was not ended
)
_BLANKS = re.compile(r"\s*+")
_LAST_WORD = re.compile(r"[^\s(\[“\"'‘]*\Z")
_LETTERS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")  # U.S. or e.g.
_LIST_NUMBER = re.compile(r"\d{1,3}|[ivx]{1,4}", re.IGNORECASE)
_LONGEST = 12
_INDENT = 40

_ABBREVIATIONS = frozenset(
    "al approx assn bros bzw ca cf co col corp dept d.h dipl dr ed eds est etc ggf gen gov hon inc jr lt ltd maj "
    "messrs mr mrs ms mt op ph.d pres prof rep resp rev sen sgt sr st univ usw vgl viz vs z.b".split()
)
# Words too, or months: they abbreviate only before a number.
_BEFORE_NUMBER = frozenset(
    "apr art aug cap ch chap dec eq eqs ex feb fig figs jan jul jun mar max min no nos nov nr oct p para pp pt ref "
    "refs sec sep sept tab tel vol vols".split()
)


def sentence_starts(text: str) -> list[int]:
    """Offsets at which a sentence begins, but the first, in order. The blanks before belong to the sentence ended."""
    starts = []
    for end in _END.finditer(text):
        begin = _BLANKS.search(text, end.end()).end()  # type: ignore[union-attr]  # matches anywhere, if only ""
        if begin < len(text) and (end[0][0] in "\n。！？｡" or _ends(text, end.start(), end[0], begin)):
            starts.append(begin)
    return sorted(set(starts))


def _ends(text: str, mark: int, marks: str, begin: int) -> bool:
    """Whether the marks at ``mark`` end a sentence when the next would begin at ``begin``."""
    if text[begin].islower():
        return False
    if marks != ".":
        return True
    before = _LAST_WORD.search(text, max(0, mark - _LONGEST), mark)
    word = before[0] if before else ""
    if word.lower() in _ABBREVIATIONS or (text[begin].isdecimal() and word.lower() in _BEFORE_NUMBER):
        return False
    if _LETTERS.fullmatch(word) or (len(word) == 1 and word.isupper()):  # U.S. Navy, J. Smith
        return False
    return not (_LIST_NUMBER.fullmatch(word) and _at_line_start(text, mark - len(word)))


def _at_line_start(text: str, at: int) -> bool:
    begin = max(0, at - _INDENT)
    line = text[begin:at].rpartition("\n")
    return not line[2].strip() and (begin == 0 or line[1] == "\n")
