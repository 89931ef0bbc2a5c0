"""The corpora of the benchmark of embedding, as files that its contenders read, with the tokens of each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from pipelines.embed.backends import open_tokenizer
from pipelines.embed.models import resolve_model
from pipelines.embed.settings import EmbedSettings
from tests.benchmarks.derived import MODEL
from tests.benchmarks.texts import (
    input_of,
    made_texts,
    mixed_lengths,
    read_documents,
    share_of,
    single_tokens,
    uniform_lengths,
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """``file``: a JSON list of the texts; ``tokens`` of each, cut at the model's limit."""

    name: str
    file: Path
    tokens: list[int]

    def turn(self, number: int, shares: int) -> tuple[list[int], int]:
        """The texts of a turn, and their tokens."""
        chosen = share_of(self.tokens, number, shares)
        return chosen, sum(self.tokens[i] for i in chosen)


def labelled(folder: Path, data: Path, name: str, count: int) -> Corpus:
    return _write(folder, name, [input_of(document) for document in read_documents(data, name, count)])


def _write(folder: Path, name: str, texts: Sequence[str]) -> Corpus:
    file = folder / f"{name}.json"
    file.write_bytes(orjson.dumps(texts))
    settings = EmbedSettings(model=MODEL)
    limit = resolve_model(MODEL, digest=None, storage=None).space.max_tokens
    return Corpus(name, file, [min(count, limit) for count in open_tokenizer(settings).count(texts)])


def mixed_and_uniform(folder: Path, corpora: Sequence[Corpus], tokens: int) -> tuple[Corpus, Corpus]:
    tokenizer, limit = open_tokenizer(EmbedSettings(model=MODEL)), 256
    words = single_tokens(orjson.loads(corpora[0].file.read_bytes()), tokenizer)
    lengths = mixed_lengths(limit, tokens)
    mixed = _write(folder, "mixed", made_texts(words, lengths, tokenizer))
    return mixed, _write(folder, "uniform", made_texts(words, uniform_lengths(lengths, limit), tokenizer))


def sample_of(folder: Path, corpora: Sequence[Corpus]) -> Path:
    """A sixteenth of each corpus: what contenders warm up on and choose their batch size by."""
    file = folder / "sample.json"
    if not file.exists():
        texts = [orjson.loads(corpus.file.read_bytes()) for corpus in corpora]
        file.write_bytes(orjson.dumps([every[i] for every, corpus in zip(texts, corpora, strict=True)
                                       for i in corpus.turn(0, 16)[0]]))  # fmt: skip
    return file
