"""Golden queries and the documents they must find, and what two generations find in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pipelines.embed.embedder import Embedder
from pipelines.errors import NotFound, SettingsError
from pipelines.search import How, best_per_document, search_many
from pipelines.storage import StorageSettings
from pipelines.store import open_store
from pipelines.targets.target import IndexTarget
from pipelines.verify.gates import Gate, told_only
from pipelines.verify.searches import Ranking
from pipelines.verify.settings import VerifySettings

_CHUNKS_PER_DOCUMENT = 5  # how many more chunks to fetch, as several may be of one document
_MOST_HITS = 1_000


@dataclass(frozen=True, slots=True)
class Golden:
    """A query and the documents of which it must find one."""

    query: str
    document_ids: frozenset[str]


def read_golden(where: str, storage: StorageSettings) -> list[Golden]:
    """Golden queries of a file or uri.

    Raises:
        SettingsError: it cannot be read, is empty, or a line is not {"query": text, "document_ids": [id, …]}.
    """
    golden = []
    for number, line in enumerate(_read(where, storage).splitlines(), 1):
        if line.strip():
            golden.append(_golden(line, f"verify.golden: {where} line {number}"))
    if not golden:
        raise SettingsError(f"verify.golden: {where} holds no query")
    return golden


def rankings(target: IndexTarget, embedder: Embedder | None, generation: str, golden: Sequence[Golden],
             settings: VerifySettings) -> list[Ranking]:  # fmt: skip
    """The best ``golden_k`` documents for each golden query. Raises SpaceMismatch as ``search_many`` does."""
    k = settings.golden_k
    how = How(mode=settings.golden_mode, k=min(_MOST_HITS, k * _CHUNKS_PER_DOCUMENT))
    answers = search_many(target, embedder, generation, [each.query for each in golden], how)
    return [[hit.document_id for hit in best_per_document(hits)[:k]] for hits in answers]


def gate_of_golden(golden: Sequence[Golden], found: Sequence[Ranking], settings: VerifySettings) -> Gate:
    lost = [each.query for each, documents in zip(golden, found, strict=True) if not each.document_ids & set(documents)]
    share = 1 - len(lost) / len(golden)
    text = f"{len(golden) - len(lost)} of {len(golden)} queries find a document ({settings.golden_mode}, k {settings.golden_k})"
    return Gate("golden queries", share >= settings.min_golden, text, f"a share of >= {settings.min_golden}",
                "; ".join(f"nothing expected for {query[:80]!r}" for query in lost[:3]),
                "`backhaul query CONF` shows what is found; mend the corpus, the model or the golden queries")  # fmt: skip


def gate_of_golden_unasked(golden: Sequence[Golden], difference: Sequence[str]) -> Gate:
    """Queries of another Space than the generation's would find nothing that means anything."""
    return Gate("golden queries", False, f"{len(golden)} queries not asked", "an embedder of the generation's Space",
                "; ".join(difference), "set embed as the generation's run had it, or verify.golden null")  # fmt: skip


def gate_of_overlap(mine: Sequence[Ranking], live: Sequence[Ranking] | None, why_not: str,
                    minimum: float | None) -> Gate:  # fmt: skip
    """Mean share of documents that both generations find; ``why_not`` says why there is nothing to compare with."""
    wanted = told_only(minimum, ">= {}")
    if live is None or not mine:
        return Gate("overlap with the live", True, f"not compared: {why_not or 'no rows to search'}", wanted)
    share = float(np.mean([_in_common(one, other) for one, other in zip(mine, live, strict=True)]))
    return Gate("overlap with the live", minimum is None or share >= minimum,
                f"{share:.4f} of the documents in common on {len(mine)} queries", wanted,
                mend="compare both with `backhaul query CONF`; lower verify.min_overlap where the change is meant")  # fmt: skip


def _in_common(one: Ranking, other: Ranking) -> float:
    return len(set(one) & set(other)) / max(len(one), len(other)) if one or other else 1.0


def _read(where: str, storage: StorageSettings) -> bytes:
    try:
        if "://" not in where:
            return Path(where).read_bytes()
        folder, _, name = where.rpartition("/")
        return open_store(folder, storage).get(name)
    except NotFound as error:
        raise SettingsError(f"verify.golden: {error}") from error
    except OSError as error:
        raise SettingsError(f"verify.golden: {where}: {error.strerror}") from error


def _golden(line: bytes, where: str) -> Golden:
    try:
        value: Any = orjson.loads(line)
        query, ids = value["query"], value["document_ids"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise SettingsError(f'{where} is not {{"query": text, "document_ids": [id, …]}}: {error}') from error
    if not isinstance(query, str) or not query.strip() or not isinstance(ids, list) or not ids:
        raise SettingsError(f"{where} needs a query that is not empty and at least one of document_ids")
    return Golden(query, frozenset(map(str, ids)))
