"""Reads every row of a partition in order, over a point in time, in bounded memory. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.document import ROW_FIELDS
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_failures import Refused
from pipelines.targets.opensearch_index import path_of
from pipelines.targets.opensearch_mapping import VECTOR
from pipelines.targets.target import ScannedRows

PAGE_BYTES = 8 << 20
_FIRST_PAGE, _LARGEST_PAGE = 8, 2_000
_KEEP_ALIVE = "5m"
_BYTES_PER_COMPONENT = 12  # of a float32 as JSON
_FIELDS = (*ROW_FIELDS, "partition", "row_digest")


def scan_partition(cluster: Cluster, index: str, partition: str, dimensions: int) -> Iterator[ScannedRows]:
    """Pages by row number. The page size follows the rows' own size, so that long texts cost no more memory."""
    size, after = _FIRST_PAGE, None
    point = _open(cluster, index)
    try:
        while True:
            body = {"size": size, "pit": {"id": point, "keep_alive": _KEEP_ALIVE}, "track_total_hits": False,
                    "query": {"bool": {"filter": [of_partition(partition)]}},
                    "sort": [{"number": "asc"}, {"id": "asc"}, {"_shard_doc": "asc"}]}  # fmt: skip
            if after is not None:
                body["search_after"] = after
            try:
                answer = cluster.call("POST", "/_search", body, params={"allow_partial_search_results": "false"})
            except Refused as error:
                if error.failure.status != 404:
                    raise
                point = _open(cluster, index)  # lost with its node; the order holds in a new one
                continue
            hits = answer["hits"]["hits"]
            if not hits:
                return
            point, after = answer["pit_id"], hits[-1]["sort"]
            yield _page(hits, dimensions)
            size = _next_size(hits, dimensions)
    finally:
        _close(cluster, point)


def of_partition(partition: str) -> dict[str, Any]:
    """The query for its rows; the empty string stands for rows that name none."""
    named = {"term": {"partition": partition}}
    if partition:
        return named
    nameless = {"bool": {"must_not": [{"exists": {"field": "partition"}}]}}
    return {"bool": {"should": [named, nameless], "minimum_should_match": 1}}


def _open(cluster: Cluster, index: str) -> str:
    params = {"keep_alive": _KEEP_ALIVE}
    return str(cluster.call("POST", f"{path_of(index)}/_search/point_in_time", params=params)["pit_id"])


def _close(cluster: Cluster, point: str) -> None:
    try:
        cluster.once("DELETE", "/_search/point_in_time", {"pit_id": [point]})
    except Refused:
        return  # it ends by itself after keep_alive


def _page(hits: list[dict[str, Any]], dimensions: int) -> ScannedRows:
    """A row that some stranger wrote may lack fields, or hold others than we write, as far as the mapping takes them:
    it becomes nulls, NaN and -1, which equal nothing."""
    vectors = np.full((len(hits), dimensions), np.nan, np.float32)
    rows = []
    for i, hit in enumerate(hits):
        source = hit["_source"]
        if len(vector := source.get(VECTOR) or ()) == dimensions:
            vectors[i] = vector
        number = source.get("number")
        rows.append({**{name: source.get(name) for name in _FIELDS}, "number": number if type(number) is int else -1})
    return ScannedRows([hit["_id"] for hit in hits], rows, vectors)


def _next_size(hits: list[dict[str, Any]], dimensions: int) -> int:
    largest = max(len(str(hit["_source"].get("text"))) for hit in hits) + dimensions * _BYTES_PER_COMPONENT
    return max(1, min(_LARGEST_PAGE, len(hits) * 4, PAGE_BYTES // largest))
