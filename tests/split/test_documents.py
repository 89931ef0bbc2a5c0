"""Documents into chunks: inputs, counts and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pipelines.document import Chunk, Document, Position
from pipelines.embed.tokens import WordTokenizer
from pipelines.ledger import Ledger
from pipelines.rejects import Rejects
from pipelines.split.documents import split_documents
from pipelines.split.methods import open_splitter
from pipelines.split.splitter import SplitSettings


class CountingTokenizer(WordTokenizer):
    """Words, with two special tokens, noting how many texts it was given at a time."""

    special_tokens = 2

    def __init__(self) -> None:
        self.batches: list[int] = []

    def count(self, texts: Sequence[str]) -> list[int]:
        self.batches.append(len(texts))
        return [count + 2 for count in super().count(texts)]


def document(text: str, title: str = "", number: int = 0) -> Document:
    return Document(f"d{number}", "a", title, text, Position("a.jsonl", number))


def split(documents: Sequence[Document], max_tokens: int = 512, **given: object) -> tuple[list[Chunk], Ledger, Rejects]:
    settings, tokenizer = SplitSettings.model_validate(given), CountingTokenizer()
    ledger, rejects = Ledger(), Rejects()
    splitter = open_splitter(settings, tokenizer.spans)
    return (
        list(split_documents(documents, splitter, settings, tokenizer, max_tokens, ledger, rejects)),
        ledger,
        rejects,
    )


def words(count: int) -> str:
    return " ".join(f"w{n}" for n in range(count))


def test_inputs_hold_title_and_special_tokens_within_the_limit() -> None:
    chunks, _, _ = split([document(words(100), "the title")], method="tokens", max_tokens=32, overlap_tokens=4)
    assert len(chunks) == 4
    assert all(chunk.tokens <= 32 and chunk.input.startswith("the title w") for chunk in chunks)
    assert max(chunk.tokens for chunk in chunks) == 32


def test_the_models_limit_bounds_the_budget_too() -> None:
    chunks, ledger, _ = split([document(words(100))], max_tokens=24, method="tokens", overlap_tokens=0)
    assert max(chunk.tokens for chunk in chunks) == 24
    assert ledger.total.truncated_chunks == 0


def test_spans_point_into_the_text_and_ordinals_count() -> None:
    source = document("\n " + words(40), "t")
    chunks, _, _ = split([source], method="tokens", max_tokens=24, overlap_tokens=0)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(source.text[chunk.span.start : chunk.span.end] == chunk.text for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


def test_what_the_model_will_not_see_goes_to_the_ledger_by_source() -> None:
    _, ledger, _ = split([document(words(30)), document(words(50))], max_tokens=20, method="none")
    assert (ledger.total.truncated_chunks, ledger.total.truncated_tokens) == (2, 12 + 32)
    assert ledger.by_source == {"truncated_tokens": {"a.jsonl": 44}}


def test_a_title_over_the_budget_leaves_the_text_a_least_room() -> None:
    chunks, ledger, _ = split([document(words(32), words(100))], max_tokens=64, method="tokens", overlap_tokens=0)
    assert [chunk.text for chunk in chunks] == [words(16), " ".join(f"w{n}" for n in range(16, 32))]
    assert ledger.total.truncated_chunks == 2


def test_documents_chunks_and_tokens_are_counted() -> None:
    chunks, ledger, _ = split([document("one two", "t"), document("three")], method="none")
    assert (ledger.total.documents, ledger.total.chunks, ledger.total.tokens) == (2, 2, 5 + 3)
    assert [chunk.tokens for chunk in chunks] == [5, 3]


class Blind(CountingTokenizer):
    """Sees no token in a text of dots."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [
            2 if set(text) <= {".", " "} else count for text, count in zip(texts, super().count(texts), strict=True)
        ]


def split_blind(text: str, **given: object) -> tuple[list[Chunk], Ledger, Rejects]:
    settings, tokenizer, ledger = SplitSettings.model_validate({"template": "{text}", **given}), Blind(), Ledger()
    rejects, splitter = Rejects(ledger), open_splitter(settings, tokenizer.spans)
    chunks = split_documents([document(text)], splitter, settings, tokenizer, 512, ledger, rejects)
    return list(chunks), ledger, rejects


def test_a_document_without_a_token_is_rejected_as_blank_once_however_many_chunks_it_has() -> None:
    for given in ({"method": "none"}, {"method": "tokens", "max_tokens": 20, "overlap_tokens": 0}):
        chunks, ledger, rejects = split_blind(". " * 50, **given)
        assert (chunks, rejects.counts) == ([], {"blank_text": 1})
        assert (ledger.total.documents, ledger.total.chunks, ledger.total.whitespace) == (0, 0, 1)


def test_a_blank_chunk_of_a_document_that_has_others_is_lost_alone() -> None:
    chunks, ledger, rejects = split_blind(". " * 18 + words(18), method="tokens", max_tokens=20, overlap_tokens=0)
    assert [chunk.ordinal for chunk in chunks] == [1]
    assert rejects.counts == {"blank_chunk": 1}
    assert (ledger.total.documents, ledger.total.chunks, ledger.total.whitespace) == (1, 1, 0)


def test_tokens_are_counted_in_batches_without_reading_all_documents_first() -> None:
    taken = 0

    def endless() -> Iterator[Document]:
        nonlocal taken
        while True:
            taken += 1
            yield document(words(3), number=taken)

    settings, tokenizer = SplitSettings(method="none"), CountingTokenizer()
    splitter = open_splitter(settings, tokenizer.spans)
    chunks = split_documents(endless(), splitter, settings, tokenizer, 512, Ledger(), Rejects())
    for _ in range(300):
        next(chunks)
    assert tokenizer.batches == [256, 256]
    assert taken == 512


class Fussy(CountingTokenizer):
    """Raises for a text with the word poison, alone or among others."""

    def count(self, texts: Sequence[str]) -> list[int]:
        if any("poison" in text for text in texts):
            raise ValueError("unheard-of word")
        return super().count(texts)


def split_with(tokenizer: WordTokenizer, documents: Sequence[Document], **given: object) -> tuple[list[Chunk], Rejects]:
    settings, rejects = SplitSettings.model_validate(given), Rejects()
    splitter = open_splitter(settings, tokenizer.spans)
    return list(split_documents(documents, splitter, settings, tokenizer, 512, Ledger(), rejects)), rejects


def test_a_text_that_the_tokenizer_cannot_count_is_a_reject_and_its_batch_is_counted() -> None:
    documents = [document("good"), document("a poison word", number=1), document("good too", number=2)]
    chunks, rejects = split_with(Fussy(), documents, method="none")
    assert [(chunk.text, chunk.tokens) for chunk in chunks] == [("good", 3), ("good too", 4)]
    assert rejects.counts == {"poison_chunk": 1}
    assert "tokenising chunk 0 raised ValueError: unheard-of word" in rejects.lines[0].decode()
    assert "a.jsonl@1" in rejects.lines[0].decode()


def test_the_other_chunks_of_a_document_are_kept() -> None:
    text = " ".join(["good"] * 60 + ["poison"] + ["good"] * 60)
    chunks, rejects = split_with(Fussy(), [document(text)], method="tokens", max_tokens=16, overlap_tokens=0)
    assert "".join(chunk.text for chunk in chunks).count("good") >= 100
    assert rejects.counts == {"poison_chunk": 1}


def test_a_document_that_cannot_be_split_is_a_reject_and_the_next_one_is_split() -> None:
    class Deep(CountingTokenizer):
        def spans(self, text: str) -> list[tuple[int, int]]:
            if "poison" in text:
                raise RecursionError("maximum recursion depth exceeded")
            return super().spans(text)

    documents = [document("poison " * 99), document(words(30), number=1)]
    chunks, rejects = split_with(Deep(), documents, method="tokens", max_tokens=64, overlap_tokens=0)
    assert [chunk.document.id for chunk in chunks] == ["d1"]
    assert rejects.counts == {"poison_document": 1}
    assert "splitting raised RecursionError" in rejects.lines[0].decode()


def test_a_title_that_the_tokenizer_cannot_count_rejects_its_document_alone() -> None:
    documents = [document(words(9), title="poison"), document(words(9), number=1)]
    chunks, rejects = split_with(Fussy(), documents, method="tokens", max_tokens=64, overlap_tokens=0)
    assert [chunk.document.id for chunk in chunks] == ["d1"]
    assert rejects.counts == {"poison_document": 1}


def test_no_document_is_rejected_for_want_of_memory() -> None:
    class Poor(CountingTokenizer):
        def count(self, texts: Sequence[str]) -> list[int]:
            raise MemoryError

    with pytest.raises(MemoryError):
        split_with(Poor(), [document("good")], method="none")
