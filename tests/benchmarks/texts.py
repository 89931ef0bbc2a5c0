"""What the benchmarks of embedding embed: labelled documents, and made texts of given lengths. Runs no model."""

from __future__ import annotations

import gzip
import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import orjson

from pipelines.embed.embedder import Tokenizer

SHORTEST, LONGEST = 5, 2000  # tokens of a text of mixed length
_MEDIAN, _SIGMA = 60, 1.3  # of the log-normal distribution: a twentieth of the texts is over 500 tokens
_BLOCK = 32  # texts of nearly one length that stay together in a share


def read_documents(data: Path, name: str, count: int) -> list[dict[str, str]]:
    """The first ``count`` of a labelled corpus in BEIR's layout: _id, title, text."""
    with gzip.open(data / name / "corpus.jsonl.gz") as lines:
        return [orjson.loads(line) for line in itertools.islice(lines, count)]


def input_of(document: dict[str, str]) -> str:
    """Title, space, text: what the published figures of these corpora embed."""
    return f"{document['title']} {document['text']}".strip()


def share_of(lengths: Sequence[int], number: int, shares: int) -> list[int]:
    """Indices of one of ``shares`` parts of the texts, in their order.

    Texts of nearly one length stay together in blocks, so that whoever sorts by length finds as little padding in a share
    as in the whole. Share ``number`` of eight is a part of share ``number`` of four, and so on.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    blocks = [order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK)]
    return sorted(i for block in blocks[number % shares :: shares] for i in block)


def mixed_lengths(max_tokens: int, tokens: int, seed: int = 1) -> list[int]:
    """Lengths from a log-normal distribution, before the model's limit, until ``tokens`` are left under it."""
    chance, lengths, valid = random.Random(seed), [], 0
    while valid < tokens:
        length = round(min(LONGEST, max(SHORTEST, chance.lognormvariate(math.log(_MEDIAN), _SIGMA))))
        lengths.append(length)
        valid += min(length, max_tokens)
    return lengths


def uniform_lengths(mixed: Sequence[int], max_tokens: int) -> list[int]:
    """As many tokens in texts of one length: that at which a token costs as many operations as in ``mixed``.

    Attention makes a token's cost grow with its text's length n, so it is the mean of n over tokens: sum n^2 / sum n.
    """
    valid = [min(length, max_tokens) for length in mixed]
    length = round(sum(n * n for n in valid) / sum(valid))
    return [length] * round(sum(valid) / length)


def made_texts(words: Sequence[str], lengths: Sequence[int], tokenizer: Tokenizer, seed: int = 1) -> list[str]:
    """Texts of exactly these many tokens, special ones included, of ``words`` that are one token each."""
    chance = random.Random(seed)
    return [" ".join(chance.choices(words, k=length - tokenizer.special_tokens)) for length in lengths]


def single_tokens(texts: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Words of the texts that are one token each."""
    words = sorted({word for text in texts for word in text.split() if word.isalpha()})
    counts = tokenizer.count(words)
    return [word for word, count in zip(words, counts, strict=True) if count == tokenizer.special_tokens + 1]
