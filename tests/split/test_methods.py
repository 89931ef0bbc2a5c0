"""Where each method cuts, and what it repeats. Every word and mark is a token here."""

from __future__ import annotations

from pipelines.embed.tokens import WordTokenizer
from pipelines.split.methods import open_splitter
from pipelines.split.splitter import SplitSettings
from tests.contracts.test_splitter import blank_before


def chunks(method: str, text: str, budget: int, overlap: int = 0) -> list[str]:
    given = {"method": method, "max_tokens": 64, "overlap_tokens": overlap}
    splitter = open_splitter(SplitSettings.model_validate(given), WordTokenizer().spans)
    return [text[span.start : span.end] for span in splitter.split(text, budget)]


def test_token_windows_repeat_the_overlap() -> None:
    assert chunks("tokens", "a b c d e f g h i j", 4, 2) == ["a b c d", "c d e f", "e f g h", "g h i j"]


def test_a_window_ends_between_words_where_one_is_near() -> None:
    # Every mark is a token: a window of twelve would end behind "l".
    assert chunks("tokens", "a b c d e f g h i j k l-m n", 12) == ["a b c d e f g h i j k", "l-m n"]


def test_spans_are_cut_shorter_evenly_where_a_first_word_is_more_tokens_alone() -> None:
    splitter = open_splitter(SplitSettings(method="tokens", max_tokens=64, overlap_tokens=0), blank_before)
    found = splitter.split(" ".join(["word"] * 44), 16)
    assert [span.end - span.start for span in found] == [14 * 5 - 1, 15 * 5 - 1, 15 * 5 - 1]


def test_sentences_are_packed_whole() -> None:
    text = "One two. Three four. Five six seven. Eight."
    assert chunks("sentences", text, 7) == ["One two. Three four.", "Five six seven. Eight."]


def test_whole_sentences_are_repeated_up_to_the_overlap() -> None:
    text = "One two. Three. Four five six. Seven."
    assert chunks("sentences", text, 6, 2) == ["One two. Three.", "Three. Four five six.", "Seven."]


def test_a_sentence_over_the_budget_is_cut_into_windows() -> None:
    text = "Short one. A b c d e f g h i j. Last one."
    assert chunks("sentences", text, 6) == ["Short one.", "A b c d e f", "g h i j.", "Last one."]


def test_sections_are_kept_together_before_paragraphs() -> None:
    text = "# A\n\none two\n\nthree four\n\n# B\n\nfive six\n"
    assert chunks("recursive", text, 7) == ["# A\n\none two\n\nthree four", "# B\n\nfive six"]


def test_small_sections_share_a_chunk() -> None:
    text = "# A\none\n# B\ntwo\n# C\nthree four five\n"
    assert chunks("recursive", text, 8) == ["# A\none\n# B\ntwo", "# C\nthree four five"]


def test_deeper_headings_are_cut_after_higher_ones() -> None:
    text = "# A\n\none\n\n## B\n\ntwo three four\n\n# C\n\nfive\n"
    assert chunks("recursive", text, 7) == ["# A\n\none", "## B\n\ntwo three four", "# C\n\nfive"]


def test_a_section_over_the_budget_is_cut_at_paragraphs_then_lines_then_sentences() -> None:
    text = "one two three\n\nfour five six\nseven eight nine\nAlpha beta. Gamma delta epsilon."
    assert chunks("recursive", text, 4) == ["one two three", "four five six", "seven eight nine", "Alpha beta.",
                                            "Gamma delta epsilon."]  # fmt: skip


def test_fenced_code_stays_whole_where_it_fits() -> None:
    code = "```py\nx\n\n# no heading\n\ny\n```"
    text = f"one two three four five\n{code}\nsix seven eight nine ten\n"
    assert chunks("recursive", text, 13) == ["one two three four five", code, "six seven eight nine ten"]


def test_fenced_code_over_the_budget_is_cut_at_lines() -> None:
    text = "```\na b c\n\nd e f\ng h i\n```\n"
    assert chunks("recursive", text, 7) == ["```\na b c", "d e f\ng h i", "```"]


def test_a_section_is_not_repeated_in_the_next() -> None:
    text = "# A\none\n# B\ntwo three\n# C\nfour five\n"
    assert chunks("recursive", text, 6, 3) == ["# A\none", "# B\ntwo three", "# C\nfour five"]
