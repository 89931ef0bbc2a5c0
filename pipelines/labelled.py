"""Labelled queries: documents, queries, and which of them belong together; read from files in BEIR's layout, or made of a
corpus itself. And what a ranking is worth by them. Knows no index and no embedder."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from pipelines.document import Chunk
from pipelines.errors import SettingsError

Qrels = Mapping[str, Mapping[str, int]]

_FIRST_SENTENCE = re.compile(r"(.{20,300}?[.!?])\s+(?=\S)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Labelled:
    """``documents`` and ``queries`` are texts by id; ``qrels[query][document]`` is a relevance. ``name`` says where it is
    from, for a reader of figures."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Qrels
    self_made: bool = False


def read_labelled(corpus: Path, queries: Path, qrels: Path, *, limit: int | None = None) -> Labelled:
    """A set in BEIR's layout. A document's text is its title, a space and its text.

    Args:
        limit: keep about so many documents: those that the first queries are judged by, at most half, and others spread
            over the corpus; and only queries whose judged documents are all kept. Figures of a part are higher than those
            of the whole.

    Raises:
        SettingsError: a file is missing or not of this layout, or no query is judged.
    """
    documents, texts = _read_corpus(corpus), read_queries(queries)
    judged: Qrels = {query: found for query, found in read_qrels(qrels).items() if query in texts}
    if limit is not None and limit < len(documents):
        documents, judged = _part(documents, judged, limit)
    if not judged:
        raise SettingsError(f"no query of {queries} is judged in {qrels}; are they of the same set?")
    name = f"{corpus.resolve().parent.name}, {len(documents):,} documents"
    return Labelled(name, documents, {query: texts[query] for query in judged}, judged)


def self_made(chunks: Iterable[Chunk]) -> Labelled:
    """Labels out of the corpus: the query is a document's title, or else its first sentence, and the document without it is
    expected. Good for comparing two Makers of one Space; it says nothing of what users ask.

    Raises:
        SettingsError: no document has a title or a second sentence.
    """
    documents, queries = {}, {}
    for chunk in chunks:
        text = chunk.text.strip()
        query, rest = chunk.document.title.strip(), text
        if not query and (found := _FIRST_SENTENCE.match(text)):
            query, rest = found[1], text[found.end() :]
        rest = rest.removeprefix(query).strip() if query else ""
        if query and rest:
            documents[chunk.id], queries[chunk.id] = rest, query
    if not queries:
        raise SettingsError("no sampled document has a title or a second sentence, so no labels can be made of them; "
                            "give labelled ones: --queries, --corpus, --qrels")  # fmt: skip
    name = f"self-made: {len(queries):,} sampled documents, each to be found by its own title or first sentence"
    return Labelled(name, documents, queries, {id_: {id_: 1} for id_ in queries}, self_made=True)


def read_queries(path: Path) -> dict[str, str]:
    """BEIR queries.jsonl: one object a line with ``_id`` and ``text``."""
    try:
        lines = path.read_bytes().splitlines()
        return {str(row["_id"]): row["text"] for row in map(orjson.loads, filter(None, lines))}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not BEIR queries.jsonl (lines with _id and text): {error}") from error


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """BEIR qrels.tsv: query-id, corpus-id and score between tabs, with a header."""
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    try:
        for line in path.read_text().splitlines()[1:]:
            query_id, document_id, score = line.split("\t")
            judged[query_id][document_id] = int(score)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not BEIR qrels.tsv (query-id, corpus-id, score): {error}") from error
    return dict(judged)


def score_run(qrels: Qrels, run: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """nDCG@10, recall@100 and MRR@10, as fractions, by ir_measures (trec_eval's code)."""
    import ir_measures
    from ir_measures import RR, R, nDCG

    found = ir_measures.calc_aggregate([nDCG @ 10, R @ 100, RR @ 10], qrels, run)
    return {"ndcg@10": round(found[nDCG @ 10], 6), "recall@100": round(found[R @ 100], 6), "mrr@10": round(found[RR @ 10], 6)}  # fmt: skip


def _read_corpus(path: Path) -> dict[str, str]:
    """BEIR corpus.jsonl, or .gz: one object a line with ``_id``, ``text`` and perhaps ``title``."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            rows = [orjson.loads(line) for line in lines if line.strip()]
        return {str(row["_id"]): f"{row.get('title') or ''} {row['text']}".strip() for row in rows}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not BEIR corpus.jsonl (lines with _id, title and text): {error}") from error


def _part(
    documents: Mapping[str, str], judged: Qrels, limit: int
) -> tuple[dict[str, str], dict[str, Mapping[str, int]]]:
    kept: set[str] = set()
    asked = {}
    for query, found in judged.items():
        if len(kept | found.keys()) > limit // 2:
            break
        kept |= found.keys() & documents.keys()
        asked[query] = found
    others = [id_ for id_ in documents if id_ not in kept]
    kept.update(others[:: max(1, len(others) // max(1, limit - len(kept)))][: limit - len(kept)])
    return {id_: text for id_, text in documents.items() if id_ in kept}, asked
