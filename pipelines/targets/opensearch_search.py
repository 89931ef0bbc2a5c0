"""Search bodies for typed queries, and the hits in their answers. Sends nothing; clients never write query DSL."""

from __future__ import annotations

from typing import Any

import orjson

from pipelines.errors import TargetError
from pipelines.targets.opensearch_failures import Failure, failure_of
from pipelines.targets.opensearch_mapping import SPACE_TYPE, VECTOR
from pipelines.targets.target import Hit, Query

FILTERS = ("doc_type", "tenant", "document_id", "partition")
# Without the vector: returning it can cost ten times the query.
_RETURNED = ["document_id", "text", "title", "uri", "metadata"]
# The better field counts whole, the other in part, as in BEIR's lexical baseline (which has 0.5). SciFact with the
# English analyzer, nDCG@10: 67.1 at 0, 69.1 at 0.5, 68.3 at 0.6, 67.0 at 1 (a plain sum).
_TIE_BREAKER = 0.6
# A shard that failed or was too late must be an error, never a shorter answer.
_HEADER = orjson.dumps({"allow_partial_search_results": False})


def multi_search_body(queries: list[Query], ef_search: int) -> bytes:
    """NDJSON of one ``_msearch``.

    Raises:
        TargetError: a query has neither or both of text and vector, or filters by an unknown field.
    """
    lines = []
    for query in queries:
        lines += [_HEADER, orjson.dumps(search_body(query, ef_search), option=orjson.OPT_SERIALIZE_NUMPY)]
    return b"\n".join(lines) + b"\n"


def search_body(query: Query, ef_search: int) -> dict[str, Any]:
    body: dict[str, Any] = {"size": query.k, "_source": _RETURNED, "track_total_hits": False}
    filters = _filters(query)
    if (query.text is None) == (query.vector is None):
        raise TargetError("a query needs text or a vector, and not both; fuse two answers for a hybrid search")
    if query.vector is None:
        words = {"multi_match": {"query": query.text, "fields": ["title", "text"], "type": "best_fields",
                                 "tie_breaker": _TIE_BREAKER}}  # fmt: skip
        return {**body, "query": {"bool": {"must": [words], "filter": filters}}}
    vector = query.vector.astype("float32", copy=False)
    if query.exact:
        params = {"field": VECTOR, "query_value": vector, "space_type": SPACE_TYPE}
        script = {"lang": "knn", "source": "knn_score", "params": params}
        return {**body, "query": {"script_score": {"query": {"bool": {"filter": filters}}, "script": script}}}
    nearest: dict[str, Any] = {"vector": vector, "k": query.k,
                               "method_parameters": {"ef_search": max(ef_search, query.k)}}  # fmt: skip
    if filters:
        nearest["filter"] = {"bool": {"filter": filters}}  # inside: a filter afterwards would leave fewer than k
    return {**body, "query": {"knn": {VECTOR: nearest}}}


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


def _filters(query: Query) -> list[dict[str, Any]]:
    for field, _ in query.filters:
        if field not in FILTERS:
            raise TargetError(f"cannot filter by {field!r}; filter by one of {', '.join(FILTERS)}")
    return [{"term": {field: value}} for field, value in query.filters]
