"""Search bodies for typed queries, and the hits in their answers. Sends nothing; clients never write query DSL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from pipelines.errors import QueryRefused
from pipelines.targets.filters import Filter
from pipelines.targets.opensearch_capabilities import RRF
from pipelines.targets.opensearch_failures import Failure, failure_of
from pipelines.targets.opensearch_mapping import SPACE_TYPE, VECTOR
from pipelines.targets.target import Hit, IndexSettings, Query

# Compressed vectors find candidates, whole ones score them again, so that scores are comparable with exact ones. Of
# faiss as many times k as OpenSearch has for on_disk ("Memory-optimized vectors"). Lucene's factor has no effect in 3.5:
# recall@10 of 600 to 3,000 random vectors stayed 0.87 whatever it was, and was 1.0 with three times k and a factor of 1.
_OVERSAMPLE = {8: 2.0, 16: 2.0, 32: 3.0}
_LUCENE_CANDIDATES = 3
_MOST_K = 10_000
_RANK_CONSTANT = 60  # as pipelines.search.RANK_CONSTANT: a hybrid search means the same wherever it is fused
# Without the vector: returning it can cost ten times the query.
_RETURNED = ["document_id", "text", "title", "uri", "metadata", "tenant", "doc_type", "date", "ordinal", "start", "end"]
# No stored field is read, not even _id; the id is what rows are sorted by. Of 100,000 rows the best 100 by words and the
# best 100 by vector took 1.9 ms so, and 5.5 ms with the fields above (two cores, one shard).
_BARE = {"_source": False, "stored_fields": "_none_"}
# Equal scores by id, so that the first hits of a longer answer are those of a shorter one, whichever copy answers.
_BEST_FIRST = [{"_score": "desc"}, {"id": "asc"}]
# The better field counts whole, the other in part, as in BEIR's lexical baseline (which has 0.5). SciFact with the
# English analyzer, nDCG@10: 67.1 at 0, 69.1 at 0.5, 68.3 at 0.6, 67.0 at 1 (a plain sum).
_TIE_BREAKER = 0.6
# A shard that failed or was too late must be an error, never a shorter answer.
_HEADER = orjson.dumps({"allow_partial_search_results": False})


def multi_search_body(queries: Sequence[Query], settings: IndexSettings, timeout_s: float | None = None) -> bytes:
    """NDJSON of one ``_msearch``; shards that have not answered after ``timeout_s`` give up.

    Raises:
        QueryRefused: a query has neither text nor vector.
    """
    given_up = {} if timeout_s is None else {"timeout": f"{max(1, int(timeout_s * 1000))}ms"}
    lines = []
    for query in queries:
        body = search_body(query, settings) | given_up
        lines += [_HEADER, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)]
    return b"\n".join(lines) + b"\n"


def search_body(query: Query, settings: IndexSettings) -> dict[str, Any]:
    filters = [*map(clause, query.filters)]
    sides = []
    if query.text is not None:
        sides.append(_lexical(query.text, filters))
    if query.vector is not None:
        sides.append(_exact(query, filters) if query.exact else _nearest(query, filters, settings))
    if not sides:
        raise QueryRefused("a query needs text, a vector, or both for a hybrid search")
    body: dict[str, Any] = {
        "size": query.k,
        **(_BARE if query.bare else {"_source": _returned(query.with_vectors)}),
        "track_total_hits": False,
        "query": sides[0],
        "sort": _BEST_FIRST,
    }
    if len(sides) == 2:
        del body["sort"]  # fused ranks have an order of their own
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


def chunks_body(document_id: str, filters: Sequence[Filter], limit: int) -> dict[str, Any]:
    """The first rows of a document."""
    wanted = [{"term": {"document_id": document_id}}, *map(clause, filters)]
    return {"size": limit, "_source": _RETURNED, "track_total_hits": False, "sort": [{"ordinal": "asc"}, {"id": "asc"}],
            "query": {"bool": {"filter": wanted}}}  # fmt: skip


def rows_body(ids: Sequence[str], *, with_vectors: bool) -> dict[str, Any]:
    return {"size": len(ids), "_source": _returned(with_vectors), "track_total_hits": False, "sort": ["_doc"],
            "query": {"ids": {"values": list(ids)}}}  # fmt: skip


def _returned(with_vectors: bool) -> list[str]:
    return [*_RETURNED, VECTOR] if with_vectors else _RETURNED


def hits_of(response: dict[str, Any]) -> list[Hit]:
    return [_hit(found["_id"], found["_score"], found["_source"]) if "_source" in found
            else Hit(found["sort"][1], "", found["_score"] or 0.0)
            for found in response["hits"]["hits"]]  # fmt: skip


def _hit(id_: str, score: float | None, row: dict[str, Any]) -> Hit:
    vector = row.get(VECTOR)
    return Hit(
        id_, row.get("document_id", ""), score or 0.0, row.get("text", ""), row.get("title", ""), row.get("uri", ""),
        row.get("metadata") or {}, row.get("tenant"), row.get("doc_type"), row.get("date"), row.get("ordinal", 0),
        row.get("start", 0), row.get("end", 0), None if vector is None else np.asarray(vector, dtype=np.float32),
    )  # fmt: skip


def failure_in(response: dict[str, Any]) -> Failure | None:
    """Why one answer of an ``_msearch`` must not be used, if so."""
    if "error" in response:
        return failure_of(response.get("status"), response["error"])
    if response.get("timed_out"):
        return Failure(503, "search_timed_out", "the search ended before every shard had answered")
    return None


def clause(wanted: Filter) -> dict[str, Any]:
    """A filter, checked before (pipelines.targets.filters), as OpenSearch has it. Values are values, whatever they hold."""
    if len(wanted.any_of) == 1:
        return {"term": {wanted.field: wanted.any_of[0]}}
    if wanted.any_of:
        return {"terms": {wanted.field: list(wanted.any_of)}}
    bounds = {"gte": wanted.at_least, "lte": wanted.at_most}
    return {"range": {wanted.field: {name: bound for name, bound in bounds.items() if bound is not None}}}
