"""Search bodies for typed queries, and the hits in their answers. Sends nothing; clients never write query DSL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from pipelines.errors import TargetError
from pipelines.targets.opensearch_capabilities import RRF
from pipelines.targets.opensearch_failures import Failure, failure_of
from pipelines.targets.opensearch_mapping import SPACE_TYPE, VECTOR
from pipelines.targets.target import Hit, IndexSettings, Query

FILTERS = ("doc_type", "tenant", "document_id", "partition")
METADATA = "metadata."
# Compressed vectors find candidates, whole ones score them again, so that scores are comparable with exact ones. Of
# faiss as many times k as OpenSearch has for on_disk ("Memory-optimized vectors"). Lucene's factor has no effect in 3.5:
# recall@10 of 600 to 3,000 random vectors stayed 0.87 whatever it was, and was 1.0 with three times k and a factor of 1.
_OVERSAMPLE = {8: 2.0, 16: 2.0, 32: 3.0}
_LUCENE_CANDIDATES = 3
_MOST_K = 10_000
_RANK_CONSTANT = 60  # as pipelines.search.RANK_CONSTANT: a hybrid search means the same wherever it is fused
# What a filter's value may be, by the type of the metadata field; a keyword may be anything.
_VALUES = {
    "number": re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?"),
    "date": re.compile(r"\d{4}(-\d\d(-\d\d(T[\d:.]+(Z|[+-]\d\d:?\d\d)?)?)?)?"),
    "boolean": re.compile("true|false"),
}
# Without the vector: returning it can cost ten times the query.
_RETURNED = ["document_id", "text", "title", "uri", "metadata"]
# The better field counts whole, the other in part, as in BEIR's lexical baseline (which has 0.5). SciFact with the
# English analyzer, nDCG@10: 67.1 at 0, 69.1 at 0.5, 68.3 at 0.6, 67.0 at 1 (a plain sum).
_TIE_BREAKER = 0.6
# A shard that failed or was too late must be an error, never a shorter answer.
_HEADER = orjson.dumps({"allow_partial_search_results": False})


def multi_search_body(queries: list[Query], settings: IndexSettings, types: Mapping[str, str]) -> bytes:
    """NDJSON of one ``_msearch``. ``types`` are those of the metadata fields.

    Raises:
        TargetError: a query has neither text nor vector, or filters by an unknown field.
    """
    lines = []
    for query in queries:
        lines += [_HEADER, orjson.dumps(search_body(query, settings, types), option=orjson.OPT_SERIALIZE_NUMPY)]
    return b"\n".join(lines) + b"\n"


def search_body(query: Query, settings: IndexSettings, types: Mapping[str, str]) -> dict[str, Any]:
    filters = _filters(query, types)
    sides = []
    if query.text is not None:
        sides.append(_lexical(query.text, filters))
    if query.vector is not None:
        sides.append(_exact(query, filters) if query.exact else _nearest(query, filters, settings))
    if not sides:
        raise TargetError("a query needs text, a vector, or both for a hybrid search")
    body: dict[str, Any] = {"size": query.k, "_source": _RETURNED, "track_total_hits": False, "query": sides[0]}
    if len(sides) == 2:
        body |= {"query": {"hybrid": {"queries": sides}}, "search_pipeline": fusing_pipeline()}
    return body


def fusing_pipeline() -> dict[str, Any]:
    """Sent with each search, so that the cluster keeps nothing that another client could change."""
    fuse = {"combination": {"technique": "rrf", "rank_constant": _RANK_CONSTANT}}
    return {"phase_results_processors": [{RRF: fuse}]}


def _lexical(text: str, filters: list[dict[str, Any]]) -> dict[str, Any]:
    words = {"multi_match": {"query": text, "fields": ["title", "text"], "type": "best_fields",
                             "tie_breaker": _TIE_BREAKER}}  # fmt: skip
    return {"bool": {"must": [words], "filter": filters}}


def _exact(query: Query, filters: list[dict[str, Any]]) -> dict[str, Any]:
    params = {"field": VECTOR, "query_value": _float32(query), "space_type": SPACE_TYPE}
    script = {"lang": "knn", "source": "knn_score", "params": params}
    return {"script_score": {"query": {"bool": {"filter": filters}}, "script": script}}


def _nearest(query: Query, filters: list[dict[str, Any]], settings: IndexSettings) -> dict[str, Any]:
    k, rescore = query.k, _OVERSAMPLE.get(settings.times_smaller)
    if settings.engine == "lucene" and settings.times_smaller > 1:
        k, rescore = max(k, min(k * _LUCENE_CANDIDATES, _MOST_K)), 1.0
    nearest: dict[str, Any] = {"vector": _float32(query), "k": k,
                               "method_parameters": {"ef_search": max(settings.ef_search, k)}}  # fmt: skip
    if filters:
        nearest["filter"] = {"bool": {"filter": filters}}  # inside: a filter afterwards would leave fewer than k
    if rescore:
        nearest["rescore"] = {"oversample_factor": rescore}
    return {"knn": {VECTOR: nearest}}


def _float32(query: Query) -> Any:  # Any: an array that orjson prints
    assert query.vector is not None
    return query.vector.astype("float32", copy=False)


def hits_of(response: dict[str, Any]) -> list[Hit]:
    return [
        Hit(
            id=hit["_id"],
            document_id=hit["_source"].get("document_id", ""),
            score=float(hit["_score"]),
            text=hit["_source"].get("text", ""),
            title=hit["_source"].get("title", ""),
            uri=hit["_source"].get("uri", ""),
            metadata=hit["_source"].get("metadata") or {},
        )
        for hit in response["hits"]["hits"]
    ]


def failure_in(response: dict[str, Any]) -> Failure | None:
    """Why one answer of an ``_msearch`` must not be used, if so."""
    if "error" in response:
        return failure_of(response.get("status"), response["error"])
    if response.get("timed_out"):
        return Failure(503, "search_timed_out", "the search ended before every shard had answered")
    return None


def _filters(query: Query, types: Mapping[str, str]) -> list[dict[str, Any]]:
    for field, value in query.filters:
        kind = types.get(field.removeprefix(METADATA)) if field.startswith(METADATA) else None
        if kind is None and field not in FILTERS:
            known = ", ".join([*FILTERS, *(f"{METADATA}{name}" for name in types)])
            raise TargetError(f"cannot filter by {field!r}; filter by one of {known}")
        if kind in _VALUES and not _VALUES[kind].fullmatch(value):
            raise TargetError(f"{field} is a {kind}, which {value!r} is not")
    return [{"term": {field: value}} for field, value in query.filters]
