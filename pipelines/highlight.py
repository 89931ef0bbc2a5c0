"""Where words of a query stand in a text, the same for every index and way of searching. Knows no index."""

from __future__ import annotations

import re
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


def highlights(query: str, text: str, analyzer: str = "english") -> list[tuple[int, int]]:
    """Characters [start, end) of each word of ``text`` that has the stem of a word of ``query``, in order.

    Stems are Snowball's of the analyser's language; an analyser that is no language of Snowball compares whole words.
    """
    wanted = {stem(word, analyzer) for word in _words(query)} if query else set()
    if not wanted:
        return []
    found = (match.span() for match in _WORD.finditer(text) if stem(match.group().casefold(), analyzer) in wanted)
    return [span for _, span in zip(range(_MOST), found, strict=False)]


def _words(query: str) -> list[str]:
    words = [match.group().casefold() for match in _WORD.finditer(query)]
    return [word for word in words if word not in _STOP] or words


@lru_cache(maxsize=50_000)
def stem(word: str, analyzer: str) -> str:
    """Of a word in lower case."""
    word = word.partition("'")[0].partition("\u2019")[0]
    if analyzer not in _LANGUAGES:
        return word
    stemmers = _stemmers.__dict__
    if analyzer not in stemmers:
        stemmers[analyzer] = Stemmer.Stemmer(analyzer)
    return str(stemmers[analyzer].stemWord(word))
