"""Tokenizers: a model's own, from its tokenizer.json, and words for the hash embedder. Knows no vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer

from pipelines.digest import digest_of
from pipelines.embed.embedder import Encoded, TokenIds
from pipelines.errors import SettingsError

_PIECE_CHARACTERS = 200_000
_SPACE = re.compile(r"\s")
_WORD = re.compile(r"\w+|[^\w\s]")
_APPROXIMATE = re.compile(r"[0-9A-Za-z]{1,4}|\S")

if "TOKENIZERS_PARALLELISM" not in os.environ:
    # Tokenising runs on all cores; a forked child has none of those threads and would wait for them for ever.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.register_at_fork(after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false"))


class ModelTokenizer:
    """A model's tokenizer, padding nothing. ``prompt`` goes before every text, as embedders put it.

    ``special_tokens`` counts the tokens of the prompt, too: they leave a text as much less room.

    Raises:
        SettingsError: the file is no tokenizer, or adds special tokens between those of a text.
    """

    def __init__(self, file: Path, digest: str, prompt: str = "") -> None:
        self.digest = digest
        self._prompt = prompt
        self._tokenizer = _open_tokenizer(file)
        self._before, self._behind = _special_ids(self._tokenizer, file)
        self.special_tokens = self.count([""])[0]

    def spans(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for start, piece in _pieces(text):
            offsets = self._tokenizer.encode(piece, add_special_tokens=False).offsets
            spans.extend((start + left, start + right) for left, right in offsets)
        return spans

    def count(self, texts: Sequence[str]) -> list[int]:
        return [count for _, count in self._pieces_of(texts, self._prompt)]

    def ids(self, texts: Sequence[str], prompt: str, max_tokens: int) -> list[TokenIds]:
        """int32[<= max_tokens] for each text with a prompt before it, such as that of queries."""
        return [ids for ids, _ in self._encode(texts, prompt, max_tokens)]

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[Encoded]:
        return [Encoded(ids, tokens) for ids, tokens in self._encode(texts, self._prompt, max_tokens)]

    def _encode(self, texts: Sequence[str], prompt: str, max_tokens: int) -> list[tuple[TokenIds, int]]:
        room = max(0, max_tokens - len(self._before) - len(self._behind))
        encoded = []
        for text, (pieces, count) in zip(texts, self._pieces_of(texts, prompt), strict=True):
            if len(pieces) > 1 and len(pieces[0]) < room:
                # A first piece that does not fill the model is mostly blanks, or one endless word.
                pieces = [self._tokenizer.encode(prompt + text, add_special_tokens=False).ids]
            ids = np.array([*self._before, *pieces[0][:room], *self._behind], dtype=np.int32)
            encoded.append((ids, count))
        return encoded

    def _pieces_of(self, texts: Sequence[str], prompt: str) -> list[tuple[list[list[int]], int]]:
        """Of each text the ids of its first piece, and of the others enough to know that there are some; and the
        tokens of all, special ones included."""
        pieces = [(i, piece) for i, text in enumerate(texts) for _, piece in _pieces(prompt + text)]
        found = self._tokenizer.encode_batch_fast([piece for _, piece in pieces], add_special_tokens=False)
        kept: list[list[list[int]]] = [[] for _ in texts]
        counts = [len(self._before) + len(self._behind)] * len(texts)
        for (i, _), piece in zip(pieces, found, strict=True):
            kept[i].append(piece.ids if not kept[i] else [])
            counts[i] += len(piece)
        return list(zip(kept, counts, strict=True))


class WordTokenizer:
    """Words and single punctuation marks: the tokens of the hash embedder, which adds no special ones."""

    digest = digest_of(["words", 1, _WORD.pattern])
    special_tokens = 0

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(text)]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[Encoded]:
        return [Encoded(None, count) for count in self.count(texts)]

    def words(self, text: str) -> list[str]:
        """The tokens of ``text`` in lower case."""
        return _WORD.findall(text.lower())


class ApproximateTokenizer:
    """For a model whose tokenizer is not here: at most four ASCII letters or digits, or one other character, are a
    token. That is more than a subword tokenizer makes of most texts (English: about a fifth more), so that what fits
    by this count fits the model. ``prompt`` goes before every text."""

    digest = digest_of(["approximate", 1, _APPROXIMATE.pattern])

    def __init__(self, prompt: str = "") -> None:
        self._prompt = prompt
        self.special_tokens = 2 + len(_APPROXIMATE.findall(prompt))

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _APPROXIMATE.finditer(text)]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [self.special_tokens + len(_APPROXIMATE.findall(text)) for text in texts]

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[Encoded]:
        return [Encoded(None, count) for count in self.count(texts)]


def _open_tokenizer(file: Path) -> HuggingFaceTokenizer:
    try:
        tokenizer = HuggingFaceTokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
        raise SettingsError(f"{file} is no tokenizer that this version reads ({error}); pin the model again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _special_ids(tokenizer: HuggingFaceTokenizer, file: Path) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and behind those of a text."""
    text = "a"
    whole, plain = tokenizer.encode(text).ids, tokenizer.encode(text, add_special_tokens=False).ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), None)
    if at is None or not plain:
        raise SettingsError(f"{file} puts special tokens between those of a text; choose another model")
    return whole[:at], whole[at + len(plain) :]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """``text`` in pieces with their offsets, cut before white space, so that a tokenizer's own records of a long
    text (about 100 bytes a token) stay small. Tokens do not reach across white space."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        found = _SPACE.search(text, start + _PIECE_CHARACTERS)
        if found is None:
            break
        yield start, text[start : found.start()]
        start = found.start()
    yield start, text[start:]
