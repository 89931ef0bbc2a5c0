"""Where sentences begin."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipelines.split.sentences import sentence_starts


def sentences(text: str) -> list[str]:
    bounds = [0, *sentence_starts(text), len(text)]
    return [text[start:end].strip() for start, end in pairwise(bounds)]


@pytest.mark.parametrize(
    "expected",
    [
        ["It rains.", "Take a coat!", "Really?", "Yes…", "Well."],
        ['He said "no."', "She left."],
        ["See Fig. 3 and Dr. Smith, e.g. here.", "Next one."],
        ["J. R. Smith of the U.S. Navy came.", "He sat."],
        ["It costs 3.14 dollars.", "The rest is free."],
        ["Ask node.js or example.com.", "Then go on."],
        ['"Go!" he said.', "They went."],
        ["He won (at last.)", "Then he slept."],
        ["1. First item here.", "Then more."],
        ["It was in 1999.", "Then came 2000."],
        ["He said no.", "See No. 7 of Vol. 2."],
        ["Take variable x.", "Then go on."],
        ["a heading", "and a paragraph"],
    ],
)
def test_sentences_are_told_apart(expected: list[str]) -> None:
    glue = "\n\n" if expected[0] == "a heading" else " "
    assert sentences(glue.join(expected)) == expected


def test_chinese_and_japanese_need_no_blank_between_sentences() -> None:
    assert sentences("今天下雨。带伞！「好。」走吧") == ["今天下雨。", "带伞！", "「好。」", "走吧"]  # noqa: RUF001


def test_a_single_newline_is_no_boundary() -> None:
    assert sentences("one\ntwo") == ["one\ntwo"]
