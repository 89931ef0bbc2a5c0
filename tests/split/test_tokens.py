"""Windows over the tokens of a text."""

from __future__ import annotations

from pipelines.split.tokens import Tokens


def windows(text: str, spans: list[tuple[int, int]], budget: int, overlap: int = 0) -> list[tuple[int, int]]:
    return list(Tokens(text, lambda piece: spans).windows(0, len(text), budget, overlap))


def test_a_window_never_ends_within_a_token() -> None:
    # As a tokenizer says that spells one letter in several tokens, or letters that belong together.
    spans = [(0, 1), (1, 3), (2, 4), (2, 4), (4, 5), (5, 6)]
    assert windows("abcdef", spans, 3) == [(0, 1), (1, 4), (4, 6)]


def test_one_letter_of_more_tokens_than_the_budget_is_a_window_of_its_own() -> None:
    assert windows("abc", [(0, 1), *[(1, 2)] * 9, (2, 3)], 4) == [(0, 1), (1, 2), (2, 3)]


def test_characters_without_a_token_belong_to_the_window_before() -> None:
    assert windows("\0a\0b\0", [(1, 2), (3, 4)], 1) == [(0, 3), (3, 5)]


def test_tokens_without_characters_are_left_out() -> None:
    assert windows("ab", [(0, 0), (0, 1), (1, 1), (1, 2)], 1) == [(0, 1), (1, 2)]
