"""Where words of a query stand in a text, the same for every index and way of searching. Knows no index."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from threading import local

import Stemmer

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_MOST = 200  # spans of one text
# Lucene's stop words of English (EnglishAnalyzer.ENGLISH_STOP_WORDS_SET): an index leaves them out as well.
_STOP = frozenset(
    re.findall(r"\w+", "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
                       "they this to was will with")
)  # fmt: skip
_LANGUAGES = frozenset(Stemmer.algorithms())
_stemmers = local()  # a stemmer works on one word at a time


def highlighter(query: str, analyzer: str = "english") -> Callable[[str], list[tuple[int, int]]]:
    """Of a text the characters [start, end) of each word that has the stem of a word of ``query``, in order.

    Stems are Snowball's of the analyser's language; an analyser that is no language of Snowball compares whole words.
    """
    words = [match.group() for match in _WORD.finditer(query)]
    telling = [word for word in words if word.casefold() not in _STOP] or words
    wanted = {stem(word, analyzer) for word in telling}

    def highlights(text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(text) if stem(match[0], analyzer) in wanted][:_MOST]

    return highlights if wanted else lambda text: []


@lru_cache(maxsize=50_000)
def stem(word: str, analyzer: str) -> str:
    """Of a word in whichever case."""
    word = word.casefold().partition("'")[0].partition("\u2019")[0]
    if analyzer not in _LANGUAGES:
        return word
    stemmers = _stemmers.__dict__
    if analyzer not in stemmers:
        stemmers[analyzer] = Stemmer.Stemmer(analyzer)
    return str(stemmers[analyzer].stemWord(word))
