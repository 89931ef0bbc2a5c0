"""Tokenizers: a model's own, from its tokenizer.json, and words for the hash embedder. Knows no vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer

from pipelines.digest import digest_of
from pipelines.embed.batches import Tokens
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
    """A model's tokenizer without truncation and padding. ``prompt`` goes before every text, as embedders put it.

    ``special_tokens`` counts the tokens of the prompt, too: they leave a text as much less room.
    """

    def __init__(self, file: Path, digest: str, prompt: str = "") -> None:
        self.digest = digest
        self._prompt = prompt
        self._tokenizer = _open_tokenizer(file)
        self._added = int(self._tokenizer.num_special_tokens_to_add(False))
        self.special_tokens = self.count([""])[0]

    def spans(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for start, piece in _pieces(text):
            offsets = self._tokenizer.encode(piece, add_special_tokens=False).offsets
            spans.extend((start + left, start + right) for left, right in offsets)
        return spans

    def count(self, texts: Sequence[str]) -> list[int]:
        pieces = [(i, piece) for i, text in enumerate(texts) for _, piece in _pieces(self._prompt + text)]
        counts = [self._added] * len(texts)
        encoded = self._tokenizer.encode_batch_fast([piece for _, piece in pieces], add_special_tokens=False)
        for (i, _), found in zip(pieces, encoded, strict=True):
            counts[i] += len(found)
        return counts


class TokenEncoder:
    """Texts to the token ids a model takes: special tokens included, cut at ``max_tokens`` as the model's own
    code does."""

    def __init__(self, file: Path, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokenizer = _open_tokenizer(file)
        self._tokenizer.enable_truncation(max_tokens)

    def encode(self, texts: Sequence[str], prompt: str) -> list[Tokens]:
        """int64[<= max_tokens] for each text, ``prompt`` put before it."""
        rows = self._encode([prompt + text[:_PIECE_CHARACTERS] for text in texts])
        # A cut text that did not fill the model (it was mostly blanks, or one endless word) is encoded whole.
        short = [i for i, row in enumerate(rows) if len(row) < self._max_tokens and len(texts[i]) > _PIECE_CHARACTERS]
        for i, row in zip(short, self._encode([prompt + texts[i] for i in short]), strict=True):
            rows[i] = row
        return rows

    def _encode(self, texts: list[str]) -> list[Tokens]:
        return [np.array(found.ids, dtype=np.int64) for found in self._tokenizer.encode_batch_fast(texts)]


class WordTokenizer:
    """Words and single punctuation marks: the tokens of the hash embedder, which adds no special ones."""

    digest = digest_of(["words", 1, _WORD.pattern])
    special_tokens = 0

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(text)]

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]

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


def _open_tokenizer(file: Path) -> HuggingFaceTokenizer:
    try:
        tokenizer = HuggingFaceTokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for whatever is wrong with the file
        raise SettingsError(f"{file} is no tokenizer that this version reads ({error}); pin the model again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


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
