"""The IndexTarget on OpenSearch: one index per generation, one alias per corpus.

Knows what a generation goes through; index, bulk, scan, search and alias each know their own part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.backoff import Backoff
from pipelines.errors import NoGeneration
from pipelines.parts import vectors_of
from pipelines.releases import ReleaseLog
from pipelines.targets.filters import Filter, check_filters, filter_types
from pipelines.targets.opensearch_alias import Aliases
from pipelines.targets.opensearch_bulk import BulkWriter
from pipelines.targets.opensearch_capabilities import Capabilities, must_support, probe, refusals, service_of
from pipelines.targets.opensearch_cluster import READ_S, Cluster
from pipelines.targets.opensearch_failures import Refused, may_pass
from pipelines.targets.opensearch_gate import Gate
from pipelines.targets.opensearch_index import Indices, path_of
from pipelines.targets.opensearch_lines import Lines, delete_lines, form_for, index_lines
from pipelines.targets.opensearch_pace import Pace
from pipelines.targets.opensearch_scan import of_partition, scan_partition
from pipelines.targets.opensearch_search import chunks_body, failure_in, hits_of, multi_search_body, rows_body
from pipelines.targets.opensearch_templates import templates_on
from pipelines.targets.opensearch_watch import Watch
from pipelines.targets.target import Generation, Health, Hit, IndexSettings, Loaded, Meta, Query, ScannedRows

SEARCH_DEADLINE_S = 10.0
_RETRIED_SHARE = 0.1  # of a deadline
_SEARCHES = 64  # in one _msearch
_ROWS = 1000  # in one request
_BUCKETS = 1_000


class OpenSearchTarget:
    """Plain or managed OpenSearch with the k-NN plugin. ``index.deadline_s`` bounds the wait for a cluster that fails
    after it had answered; one that does not answer at first is given up in a few seconds.

    Raises:
        SettingsError: ``index.url`` is missing, not an address, or holds credentials.
        TargetError: nobody answers there.
    """

    max_writers: int | None = None

    def __init__(self, settings: IndexSettings, log: ReleaseLog) -> None:
        self._settings = settings
        self._corpus = log.corpus
        self._cluster = Cluster(settings)
        self.exact_vectors = settings.returned_exactly
        self._about = self._ask_about()
        self.id = str(self._about.get("cluster_uuid") or self._cluster.url)
        self._indices = Indices(self._cluster, settings)
        self._aliases = Aliases(self._cluster, self.id, log)
        self._gate, self._watch = Gate(Pace(settings.max_bulk_bytes)), Watch(self._cluster)
        self._metas: dict[str, Meta] = {}  # by generation; another one of its name is of the same run

    def create(self, name: str, meta: Meta, dimensions: int, *, rows: int = 0) -> Generation:
        if self._asks_for_more:
            must_support(self._settings, self._probed)
        if self._settings.vectors == "byte" and meta.space["normalized"]:
            raise self._cluster.error("index.vectors: byte takes whole numbers from -128 to 127, and this model's vectors "
                                      "are normalised; set index.compression: 4, which compresses the graph alone")  # fmt: skip
        return self._indices.create(name, meta, dimensions, rows)

    def find(self, name: str) -> Generation | None:
        return self._indices.find(name)

    def meta(self, name: str) -> Meta | None:
        if name not in self._metas:
            found = self._indices.read(name)
            meta = self._indices.meta(name, found) if found else None
            if meta is None:
                return None
            self._metas[name] = meta
        return self._metas[name]

    def generations(self, corpus: str) -> list[Generation]:
        mappings = self._cluster.call("GET", "/_mapping", params={"filter_path": "*.mappings._meta.backhaul.corpus"})
        names = sorted(name for name, found in mappings.items()
                       if found["mappings"]["_meta"]["backhaul"]["corpus"] == corpus)  # fmt: skip
        return [found for name in names if (found := self.find(name))]

    def begin_load(self, name: str) -> None:
        self._indices.check(name)
        self._indices.set_load_profile(name)

    def load(self, name: str, batches: Iterable[pa.Table]) -> Loaded:
        before = self._indices.check(name)
        form = form_for(self._settings)
        writer = BulkWriter(self._cluster, name, self._gate, self._watch, form=form,
                            allowed=self._settings.max_dead_letters)  # fmt: skip
        rows = 0

        def lines() -> Iterator[Lines]:
            nonlocal rows
            for table in batches:
                self._must_fit(table)
                rows += table.num_rows
                yield from index_lines(table, form, writer.refuse)

        writer.write(lines())
        # A bulk into an index that is gone creates it anew, without our mapping.
        if self._indices.check(name) != before:
            raise self._cluster.error(
                f"{name} was dropped and made anew during the load; run `backhaul load CONF` again"
            )
        return Loaded(rows - len(writer.dead), writer.dead)

    def finish_load(self, name: str) -> None:
        self._indices.check(name)
        self._indices.shards.wait_for_primaries(name)
        self._indices.allow_graphs(name)
        self._indices.refresh(name)
        self._indices.merge(name)
        self._indices.refresh(name)
        self._indices.restore_replicas(name)
        self._indices.warm(name)
        self._indices.restore_refresh(name)

    def lost(self, name: str) -> str:
        index = self._indices.read(name)
        lost = self._indices.shards.lost(name) if index else []
        return f"shards {', '.join(map(str, lost))}, which no node of the cluster holds any more" if lost else ""

    def differences(self, name: str, dimensions: int) -> list[str]:
        return self._indices.differences(name, dimensions)

    def health(self, name: str, *, wait_s: float = 0.0) -> Health:
        return self._indices.health(name, wait_s)

    def count(self, name: str, partition: str | None = None) -> int:
        query = {"match_all": {}} if partition is None else of_partition(partition)
        answer = self._ask(name, {"size": 0, "track_total_hits": True, "query": query})
        return int(answer["hits"]["total"]["value"])

    def scan(self, name: str, partition: str) -> Iterator[ScannedRows]:
        return scan_partition(self._cluster, name, partition, self._indices.dimensions(name))

    def partitions(self, name: str) -> dict[str, int]:
        counts = Counter[str]()
        after: dict[str, Any] = {}
        while True:
            source = {"partition": {"terms": {"field": "partition", "missing_bucket": True}}}
            composite = {"size": _BUCKETS, "sources": [source], **after}
            body = {"size": 0, "aggs": {"partitions": {"composite": composite}}}
            answer = self._ask(name, body)["aggregations"]["partitions"]
            for bucket in answer["buckets"]:
                counts[bucket["key"]["partition"] or ""] += bucket["doc_count"]
            if "after_key" not in answer:
                return dict(counts)
            after = {"after": answer["after_key"]}

    def delete(self, name: str, ids: Sequence[str]) -> None:
        writer = BulkWriter(self._cluster, name, self._gate, self._watch)
        writer.write(delete_lines(ids))
        if writer.dead:
            raise self._cluster.error(
                f"{len(writer.dead)} rows of {name} could not be deleted: {writer.dead[0].reason}"
            )
        self._indices.refresh(name)

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]:
        wanted = [condition for query in queries for condition in query.filters]
        if wanted:
            check_filters(wanted, self.filters(name))
        found: list[list[Hit]] = []
        with self._told_where_absent(name):
            for start in range(0, len(queries), _SEARCHES):
                found += self._search(name, queries[start : start + _SEARCHES], deadline_s)
        return found

    def rows(self, name: str, hits: Sequence[Hit], *, with_vectors: bool = False, deadline_s: float | None = None,
             ) -> list[Hit]:  # fmt: skip
        rows: dict[str, Hit] = {}
        with self._told_where_absent(name):
            for start in range(0, len(hits), _ROWS):
                ids = [hit.id for hit in hits[start : start + _ROWS]]
                answer = self._ask(name, rows_body(ids, with_vectors=with_vectors), deadline_s)
                rows.update((row.id, row) for row in hits_of(answer))
        return [replace(row, score=hit.score, sources=hit.sources) for hit in hits if (row := rows.get(hit.id))]

    def filters(self, name: str) -> dict[str, str]:
        meta = self.meta(name)
        if meta is None:
            raise self._absent(name)
        return filter_types({field: meta.metadata_types.get(field, "keyword") for field in meta.metadata_fields})

    def chunks(self, name: str, document_id: str, filters: Sequence[Filter], limit: int, *,
               deadline_s: float | None = None) -> list[Hit]:  # fmt: skip
        check_filters(filters, self.filters(name))
        with self._told_where_absent(name):
            return hits_of(self._ask(name, chunks_body(document_id, filters, limit), deadline_s))

    def live(self, corpus: str) -> str | None:
        return self._aliases.live(corpus)

    def move_alias(self, corpus: str, expected: str | None, to: str) -> None:
        self._aliases.move(corpus, expected, to)

    def drop(self, name: str) -> None:
        index = self._indices.read(name)
        if index is None:
            return
        meta = self._indices.meta(name, index)
        if meta is None:
            raise self._cluster.error(f"index {name} was not made by Backhaul and is left alone; delete it yourself")
        if self._aliases.live(meta.corpus) == name:
            raise self._cluster.error(f"{name} is live for {meta.corpus} and cannot be dropped; "
                                      "release another generation first")  # fmt: skip
        self._indices.drop(name)
        self._metas.pop(name, None)

    def describe(self) -> dict[str, str]:
        found = {"url": self._cluster.url, "id": self.id, "service": service_of(self._settings)}
        if not self._about:
            return found
        version = self._about.get("version", {})
        health = self._cluster.call("GET", "/_cluster/health")
        return found | {
            "distribution": str(version.get("distribution", "unknown")),
            "version": str(version.get("number", "unknown")),
            "health": f"{health['status']}, {health['number_of_data_nodes']} data nodes",
            "knn": self._probed.knn.why,
        }

    def capabilities(self) -> dict[str, str]:
        # A name like those of the corpus's generations: templates are chosen by it.
        matching = templates_on(self._cluster, f"{self._corpus}-0123456789ab-01234567")
        told = "unknown: this user may not ask" if matching is None else "; ".join(map(str, matching)) or "none"
        return {**self._probed.rows(), "templates that match": told}

    def refusals(self) -> list[str]:
        return refusals(self._settings, self._probed) if self._asks_for_more else []

    @property
    def fuses(self) -> bool:
        return self._settings.server_hybrid and self._probed.hybrid.able is True

    @cached_property
    def _probed(self) -> Capabilities:
        return probe(self._cluster, self._settings, self._about)

    @property
    def _asks_for_more(self) -> bool:
        """Than what every cluster with the k-NN plugin has; only then is it asked, which takes some requests."""
        s = self._settings
        special = s.engine != "lucene" or s.vectors != "float" or s.times_smaller > 1 or s.derived_source is not None
        return special or service_of(s) == "Serverless"

    def _ask_about(self) -> dict[str, Any]:
        try:
            return dict(self._cluster.call("GET", "/"))
        except Refused as error:
            if error.failure.status == 404 and service_of(self._settings) == "Serverless":
                return {}  # it has no such page
            raise

    def _must_fit(self, table: pa.Table) -> None:
        """Raises TargetError where the index takes bytes and a vector has other components: nothing is rounded here, as
        the vectors of an index are those of its parts."""
        if self._settings.vectors != "byte":
            return
        vectors = vectors_of(table)
        wrong = (vectors != np.rint(vectors)) | (vectors < -128) | (vectors > 127)
        if wrong.any():
            raise self._cluster.error("index.vectors: byte takes whole numbers from -128 to 127, and a vector holds "
                                      f"{vectors[wrong][0]}; set index.vectors: float and index.compression: 4")  # fmt: skip

    def _absent(self, name: str) -> NoGeneration:
        return NoGeneration(f"OpenSearch at {self._cluster.url}: generation {name} does not exist; "
                            "`backhaul list CONF` shows those that do")  # fmt: skip

    @contextmanager
    def _told_where_absent(self, name: str) -> Iterator[None]:
        """What was read of it before may be remembered; a search tells that it has gone."""
        try:
            yield
        except Refused as error:
            if error.failure.type != "index_not_found_exception":
                raise
            self._metas.pop(name, None)
            raise self._absent(name) from error

    def _ask(self, name: str, body: dict[str, Any], deadline_s: float | None = None) -> Any:  # Any: JSON
        """One search of every shard: of those that do not answer the rest would be counted in silence."""
        params = {"allow_partial_search_results": "false"}
        read_s, retry_s = _patience(deadline_s, None)
        path = f"{path_of(name)}/_search"
        return self._cluster.call("POST", path, body, params=params, read_s=read_s, deadline_s=retry_s)

    def _search(self, name: str, queries: Sequence[Query], deadline_s: float | None) -> list[list[Hit]]:
        body = multi_search_body(queries, self._settings, deadline_s)
        read_s, retry_s = _patience(deadline_s, SEARCH_DEADLINE_S)
        backoff = Backoff(retry_s or SEARCH_DEADLINE_S)
        while True:
            answer = self._cluster.call("POST", f"{path_of(name)}/_msearch", body, read_s=read_s, deadline_s=retry_s)
            failures = [failure for each in answer["responses"] if (failure := failure_in(each))]
            if not failures:
                return [hits_of(each) for each in answer["responses"]]
            if not all(map(may_pass, failures)) or not backoff.wait():
                raise self._cluster.refused(failures[0])


def _patience(deadline_s: float | None, usual_s: float | None) -> tuple[float, float | None]:
    """Seconds that one answer is waited for, and in which failures are tried again. Whoever has a deadline would rather
    hear soon that it failed."""
    return (READ_S, usual_s) if deadline_s is None else (deadline_s, deadline_s * _RETRIED_SHARE)
