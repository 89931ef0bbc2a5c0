"""The sample of a corpus: the same each time, through reader, splitter and template, hardly moved by what is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.document import Chunk
from pipelines.embed.backends import open_tokenizer, space_of
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import SettingsError
from pipelines.model.sample import sample_chunks
from pipelines.read.reader import SourceSettings
from pipelines.split.splitter import SplitSettings
from tests.e2e.corpora import write_corpus

EMBED = EmbedSettings(backend="hash", dimensions=8)


def sample(folder: Path, count: int, **split: object) -> list[Chunk]:
    source = SourceSettings.model_validate({"uri": f"file://{folder}/", "format": "jsonl", "include": ["**/*"],
                                            "fields": {"id": "id", "title": "title", "text": "text"}})  # fmt: skip
    settings = SplitSettings.model_validate({"method": "none", "template": "{title}: {text}", **split})
    return sample_chunks(source, settings, open_tokenizer(EMBED), space_of(EMBED), count)


def test_it_is_the_same_each_time_and_from_all_objects(tmp_path: Path) -> None:
    write_corpus(tmp_path, objects=4, documents=50)
    first = sample(tmp_path, 40)
    assert [chunk.id for chunk in first] == [chunk.id for chunk in sample(tmp_path, 40)]
    assert len({chunk.document.id for chunk in first}) == 40
    assert len({chunk.document.position.key for chunk in first}) == 4


def test_it_is_what_would_be_embedded(tmp_path: Path) -> None:
    write_corpus(tmp_path, objects=1, documents=5)
    for chunk in sample(tmp_path, 5):
        assert chunk.input == f"{chunk.document.title}: {chunk.text}"


def test_one_chunk_of_each_document_is_taken_and_not_always_the_first(tmp_path: Path) -> None:
    write_corpus(tmp_path, objects=1, documents=30, words=80)
    found = sample(tmp_path, 30, method="tokens", max_tokens=32, overlap_tokens=0)
    assert len(found) == 30
    assert len({chunk.ordinal for chunk in found}) > 1


def test_a_corpus_that_grew_keeps_most_of_its_sample(tmp_path: Path) -> None:
    write_corpus(tmp_path, objects=2, documents=100)
    before = {chunk.document.id for chunk in sample(tmp_path, 50)}
    write_corpus(tmp_path, objects=2, documents=110)
    assert len(before & {chunk.document.id for chunk in sample(tmp_path, 50)}) > 40


def test_a_small_corpus_is_its_own_sample(tmp_path: Path) -> None:
    write_corpus(tmp_path, objects=1, documents=3)
    assert len(sample(tmp_path, 300)) == 3


def test_a_corpus_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "1", "title": "", "text": ""}\n')
    with pytest.raises(SettingsError, match="no text was found"):
        sample(tmp_path, 3)
