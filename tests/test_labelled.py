"""Labelled sets: read, cut down, made of the corpus itself, and refused when they are not what they should be."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest

from pipelines.document import Chunk, Document, Position, Span
from pipelines.errors import SettingsError
from pipelines.labelled import read_labelled, score_run, self_made


def write_set(folder: Path, *, documents: int = 20, queries: int = 6) -> list[Path]:
    """Query i is judged by document i alone."""
    corpus, asked, qrels = folder / "corpus.jsonl.gz", folder / "queries.jsonl", folder / "qrels.tsv"
    rows = [{"_id": f"d{i}", "title": f"T{i}" if i else "", "text": f"text {i}"} for i in range(documents)]
    corpus.write_bytes(gzip.compress(b"\n".join(map(orjson.dumps, rows))))
    asked.write_bytes(b"\n".join(orjson.dumps({"_id": f"q{i}", "text": f"query {i}"}) for i in range(queries)))
    qrels.write_text("q\td\ts\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(queries)))
    return [corpus, asked, qrels]


def chunk(title: str, text: str) -> Chunk:
    document = Document(id=f"{title}{text}", uri="u", title=title, text=text, position=Position("k", 0))
    return Chunk(document, 0, text, Span(0, len(text)), f"{title} {text}", 5)


def test_a_document_is_its_title_a_space_and_its_text(tmp_path: Path) -> None:
    found = read_labelled(*write_set(tmp_path))
    assert (found.documents["d1"], found.documents["d0"]) == ("T1 text 1", "text 0")
    assert (len(found.documents), len(found.queries), found.qrels["q3"]) == (20, 6, {"d3": 1})
    assert not found.self_made


def test_a_part_keeps_whole_queries_and_other_documents(tmp_path: Path) -> None:
    found = read_labelled(*write_set(tmp_path), limit=10)
    assert len(found.documents) == 10
    assert list(found.queries) == ["q0", "q1", "q2", "q3", "q4"]
    assert all(document in found.documents for judged in found.qrels.values() for document in judged)
    assert found.documents.keys() - {f"d{i}" for i in range(5)}


def test_a_limit_above_the_set_keeps_all_of_it(tmp_path: Path) -> None:
    files = write_set(tmp_path)
    assert read_labelled(*files, limit=100) == read_labelled(*files)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "BEIR corpus.jsonl"), (1, "BEIR queries.jsonl"), (2, "BEIR qrels.tsv")]
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, number: int, said: str) -> None:
    files = write_set(tmp_path)
    files[number] = tmp_path / "other.jsonl"
    files[number].write_text('first\n{"no": "id"}\n')
    with pytest.raises(SettingsError, match=said):
        read_labelled(*files)
    files[number].unlink()
    with pytest.raises(SettingsError, match="No such file"):
        read_labelled(*files)


def test_files_of_different_sets_are_refused(tmp_path: Path) -> None:
    files = write_set(tmp_path)
    files[2].write_text("q\td\ts\nother\td1\t1\n")
    with pytest.raises(SettingsError, match="are they of the same set"):
        read_labelled(*files)


def test_a_title_asks_for_its_document_without_it() -> None:
    found = self_made(
        [chunk("Herring", "Herring swim in the sea."), chunk("", "The first sentence is long enough. The rest.")]
    )
    assert found.self_made
    assert "self-made" in found.name
    asked = {found.queries[query]: found.documents[query] for query in found.queries}
    assert asked == {"Herring": "swim in the sea.", "The first sentence is long enough.": "The rest."}
    assert all(found.qrels[query] == {query: 1} for query in found.queries)


def test_a_corpus_without_titles_and_second_sentences_makes_no_labels() -> None:
    with pytest.raises(SettingsError, match="--queries, --corpus, --qrels"):
        self_made([chunk("", "One sentence alone, and nothing after it")])


def test_scores_are_those_of_trec_eval() -> None:
    found = score_run({"q": {"a": 1, "b": 1}}, {"q": {"x": 3.0, "a": 2.0}})
    assert found == {"ndcg@10": pytest.approx(0.386853), "recall@100": 0.5, "mrr@10": 0.5}
