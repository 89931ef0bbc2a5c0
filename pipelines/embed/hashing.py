"""The hash embedder: deterministic vectors from words, for tests and dry runs. Knows no model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.digest import digest_of
from pipelines.embed.embedder import Role, TokenIds, Vectors
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.tokens import WordTokenizer
from pipelines.space import ObservedMaker, RequestedMaker, Space

MAX_TOKENS = 512
_CACHED_WORDS = 16_384
_SLICE_CELLS = 4 << 20  # words times dimensions, gathered at a time


def hash_space(dimensions: int) -> Space:
    return Space(
        weights=digest_of(["hash embedder", 1]),
        tokenizer=WordTokenizer.digest,
        pooling="sum",
        query_prompt="",
        document_prompt="",
        normalized=True,
        max_tokens=MAX_TOKENS,
        dimensions=dimensions,
    )


class HashEmbedder:
    """The sum of one pseudo-random vector of ±1 per word, normalised: texts that share words are near.

    A random projection of the bag of words (Achlioptas, "Database-friendly random projections", 2003). Sums are
    whole numbers, so a vector does not depend on its batch, on threads or on the machine.
    """

    def __init__(self, settings: EmbedSettings, requested: RequestedMaker) -> None:
        assert settings.dimensions is not None
        self.space = hash_space(settings.dimensions)
        self.maker = ObservedMaker(requested, (("hash", "1"),), "any", settings.batch_tokens)
        self._tokenizer = WordTokenizer()
        self._rows: dict[str, int] = {}
        self._signs = np.empty((_CACHED_WORDS, settings.dimensions), dtype=np.int8)

    def embed(self, texts: Sequence[str], role: Role, ids: Sequence[TokenIds] | None = None) -> Vectors:
        vectors = np.empty((len(texts), self.space.dimensions), dtype=np.float32)
        for start, words in self._slices(texts):
            sums = self._sums(words)
            for i in np.flatnonzero(~sums.any(axis=1)).tolist():  # no words, or words that cancel out
                sums[i] = self._sign_row("\n" + texts[start + i])
            lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True).astype(np.float64))
            vectors[start : start + len(words)] = sums / lengths
        return vectors

    def _slices(self, texts: Sequence[str]) -> Iterator[tuple[int, list[list[str]]]]:
        """Words of consecutive texts, with the number of the first, bounded by what a gather may hold."""
        most = max(MAX_TOKENS, _SLICE_CELLS // self.space.dimensions)
        words: list[list[str]] = []
        start = held = 0
        for i, text in enumerate(texts):
            found = self._tokenizer.words(text)[:MAX_TOKENS]
            if words and held + len(found) > most:
                yield start, words
                start, held, words = i, 0, []
            words.append(found)
            held += len(found)
        if words:
            yield start, words

    def _sums(self, texts: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        sums = np.zeros((len(texts), self.space.dimensions), dtype=np.int64)
        self._learn(texts)
        rows = self._rows
        flat = [rows[word] for words in texts for word in words]
        filled = [i for i, words in enumerate(texts) if words]
        if filled:
            begins = np.cumsum([0, *(len(texts[i]) for i in filled[:-1])])
            sums[filled] = np.add.reduceat(self._signs[flat], begins, axis=0, dtype=np.int64)
        return sums

    def _learn(self, texts: Sequence[Sequence[str]]) -> None:
        """Give every word a row of signs; what the table cannot hold beside them is forgotten."""
        wanted = dict.fromkeys(word for words in texts for word in words)
        new = [word for word in wanted if word not in self._rows]
        if len(self._rows) + len(new) > len(self._signs):
            self._rows.clear()
            new = list(wanted)
            if len(new) > len(self._signs):
                self._signs = np.empty((len(new), self.space.dimensions), dtype=np.int8)
        for word in new:
            self._signs[len(self._rows)] = self._sign_row(word)
            self._rows[word] = len(self._rows)

    def _sign_row(self, word: str) -> NDArray[np.int8]:
        """int8[dimensions] of ±1, from the word alone."""
        dimensions = self.space.dimensions
        hashed = hashlib.shake_128(word.encode("utf-8", "surrogatepass")).digest(-(-dimensions // 8))
        bits = np.unpackbits(np.frombuffer(hashed, dtype=np.uint8))[:dimensions]
        return bits.astype(np.int8) * np.int8(2) - np.int8(1)
