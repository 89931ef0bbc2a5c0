"""One index as a whole: found, checked, given the load profile, merged, refreshed and warmed.

Knows settings and shards; knows no rows, queries or aliases.
"""

from __future__ import annotations

import re
import time
from typing import Any

from pipelines.errors import SettingsError, TargetError
from pipelines.targets.opensearch_cluster import Cluster, segment
from pipelines.targets.opensearch_failures import Refused, failure_of, may_pass
from pipelines.targets.opensearch_health import health_of, must_have_room
from pipelines.targets.opensearch_mapping import (
    REFRESH_OFF,
    VECTOR,
    index_body,
    load_profile,
    meta_of,
    must_have_meta,
    must_have_shape,
    search_profile,
    shape_differences,
    shards_for,
)
from pipelines.targets.opensearch_shards import Shards
from pipelines.targets.opensearch_templates import templates_on
from pipelines.targets.target import Generation, Health, IndexSettings, Meta

_MERGE_DEADLINE_S = 6 * 3600.0
_SLOW_READ_S = 600.0  # a refresh builds the graph of what was written since the last one
_MERGE_PAUSE_S = 2.0
_MADE_WITHIN_S = 30.0
_ROWS_S = 20.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")


class Indices:
    def __init__(self, cluster: Cluster, settings: IndexSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self.shards = Shards(cluster)

    def create(self, name: str, meta: Meta, dimensions: int, rows: int) -> Generation:
        """Made by one call, which is atomic; one that is there already must be what was asked for."""
        if self.read(name) is None:
            must_have_room(self._cluster, self._settings.replicas)
        shards = self._settings.shards or shards_for(rows, dimensions, self._processors())
        body = index_body(self._settings, name, meta, dimensions, shards)
        try:
            # It waits for its primaries, for half a minute unless told otherwise.
            patience_s = min(_MADE_WITHIN_S, self._cluster.deadline_s)
            self._cluster.call("PUT", path_of(name), body, params={"timeout": f"{patience_s * 1000:.0f}ms"})
        except Refused as error:
            if error.failure.status == 400 and error.failure.type != "resource_already_exists_exception":
                raise self._cluster.error(f"{name} cannot be made as the settings ask ({error.failure}); look at index.analyzer, "
                                          "index.analysis and index.settings") from error  # fmt: skip
            if error.failure.status != 400:
                raise
        index, what = self._must_find(name), self._what(name)
        must_have_meta(meta_of(index["mappings"], what), meta, what)
        self._must_have_shape(name, index, meta, dimensions)
        self.shards.wait_for_primaries(name)
        return self._generation(name, index, meta)

    def _must_have_shape(self, name: str, index: dict[str, Any], meta: Meta, dimensions: int) -> None:
        wanted = index_body(self._settings, name, meta, dimensions, self._settings.shards)
        try:
            must_have_shape(index, wanted, self._what(name))
        except TargetError as error:
            if matching := templates_on(self._cluster, name):
                raise TargetError(f"{error} {'; '.join(map(str, matching))}: it may be why; give it other index_patterns "
                                  "if so") from error  # fmt: skip
            raise

    def _processors(self) -> int:
        """Of all data nodes; 1 where the cluster does not tell."""
        params = {"filter_path": "nodes.*.roles,nodes.*.os.allocated_processors"}
        try:
            nodes = self._cluster.call("GET", "/_nodes/os", params=params).get("nodes", {}).values()
        except Refused as error:
            if may_pass(error.failure):
                raise
            return 1
        return sum(node["os"].get("allocated_processors", 1) for node in nodes if "data" in node["roles"]) or 1

    def find(self, name: str) -> Generation | None:
        """None when there is no such index, or Backhaul did not make it."""
        index = self.read(name)
        meta = self.meta(name, index) if index else None
        return self._generation(name, index, meta) if index and meta else None

    def check(self, name: str) -> str:
        """The uuid of a generation whose mapping is still the one of the settings."""
        index = self._must_find(name)
        meta = self._must_be_ours(name, index)
        self._must_have_shape(name, index, meta, dimensions_of(meta))
        return _uuid(index)

    def differences(self, name: str, dimensions: int) -> list[str]:
        index = self._must_find(name)
        meta = self._must_be_ours(name, index)
        return shape_differences(index, index_body(self._settings, name, meta, dimensions, self._settings.shards))

    def health(self, name: str, wait_s: float) -> Health:
        index = self._must_find(name)
        return health_of(self._cluster, name, index["settings"]["index"], self._settings.replicas, wait_s)

    def dimensions(self, name: str) -> int:
        """Those of the mapping, whatever ``_meta`` says."""
        index = self._must_find(name)
        meta = self._must_be_ours(name, index)
        return int(index["mappings"]["properties"].get(VECTOR, {}).get("dimension", dimensions_of(meta)))

    def read(self, name: str) -> dict[str, Any] | None:
        """Settings, mappings and aliases, as the cluster gives them."""
        try:
            found = self._cluster.call("GET", path_of(name))
        except Refused as error:
            if error.failure.status == 404:
                return None
            raise
        if name not in found:
            raise self._cluster.error(f"{name} is an alias of {', '.join(sorted(found))}, not a generation")
        return dict(found[name])

    def meta(self, name: str, index: dict[str, Any]) -> Meta | None:
        return meta_of(index["mappings"], self._what(name))

    def drop(self, name: str) -> None:
        try:
            self._cluster.call("DELETE", path_of(name))
        except Refused as error:
            if error.failure.status != 404:
                raise

    def set_load_profile(self, name: str) -> None:
        self._put_settings(name, load_profile(self._settings))

    def allow_graphs(self, name: str) -> None:
        """From here on faiss builds graphs: what is written out now, and what is merged."""
        if self._settings.engine == "faiss":
            self._put_settings(name, {"knn.advanced.approximate_threshold": None})

    def restore_replicas(self, name: str) -> None:
        self._put_settings(name, {"number_of_replicas": self._settings.replicas})
        self.shards.wait_for_replicas(name, self._settings.replicas)

    def restore_refresh(self, name: str) -> None:
        """Comes last: by it an index is known to be set for loading."""
        self._put_settings(name, search_profile(self._settings))

    def refresh(self, name: str) -> None:
        self._cluster.call("POST", f"{path_of(name)}/_refresh", read_s=_SLOW_READ_S)

    def merge(self, name: str) -> None:
        """Merge every shard into one segment, so that its graph is built once and whole, and flush.

        The request may die before the merge does (a gateway ends it, the node restarts): then wait until no merge
        runs and ask again, which costs nothing when it was done. A shard that is away is left out in silence; one that
        goes away meanwhile is a failure of its node.
        """
        deadline = time.monotonic() + _MERGE_DEADLINE_S
        while time.monotonic() < deadline:
            try:
                params = {"max_num_segments": "1"}
                answer = self._cluster.once("POST", f"{path_of(name)}/_forcemerge", params=params, read_s=_SLOW_READ_S)
            except Refused as error:
                if not may_pass(error.failure):
                    raise
                self._wait_while_merging(name, deadline)
                continue
            failures = answer["_shards"].get("failures", [])
            if wrong := [failure for failure in failures if not _is_of_its_node(failure)]:
                raise self._cluster.error(f"merging {name} failed: {wrong}; run `backhaul load CONF` to finish it")
            if answer["_shards"]["successful"] >= self.shards.wait_for_primaries(name):
                return
            time.sleep(_MERGE_PAUSE_S)
        raise self._cluster.error(f"merging {name} took over {_MERGE_DEADLINE_S:.0f} s; run `backhaul load CONF` again")

    def _wait_while_merging(self, name: str, deadline: float) -> None:
        while time.monotonic() < deadline:
            params = {"actions": "indices:admin/forcemerge", "detailed": "true", "group_by": "none"}
            tasks = self._cluster.call("GET", "/_tasks", params=params).get("tasks", [])
            if not any(name in task.get("description", "") for task in tasks):
                return
            time.sleep(_MERGE_PAUSE_S)

    def warm(self, name: str) -> None:
        """Load the graphs into memory where the plugin has the endpoint."""
        try:
            self._cluster.call("GET", f"/_plugins/_knn/warmup/{segment(name)}", read_s=_SLOW_READ_S)
        except Refused as error:
            if error.failure.status not in (400, 403, 404, 405):
                raise

    def _put_settings(self, name: str, settings: dict[str, Any]) -> None:
        self._cluster.call("PUT", f"{path_of(name)}/_settings", {"index": settings})

    def _must_find(self, name: str) -> dict[str, Any]:
        index = self.read(name)
        if index is None:
            raise self._cluster.error(f"generation {name} does not exist; `backhaul list CONF` shows those that do")
        return index

    def _must_be_ours(self, name: str, index: dict[str, Any]) -> Meta:
        meta = self.meta(name, index)
        if meta is None:
            raise self._cluster.error(f"index {name} has no mapping of Backhaul's: a write to a dropped generation creates "
                                      f"such an index. Delete it (DELETE /{name}), then run `backhaul load CONF`")  # fmt: skip
        return meta

    def _generation(self, name: str, index: dict[str, Any], meta: Meta) -> Generation:
        loading = index["settings"]["index"].get("refresh_interval") == REFRESH_OFF
        return Generation(name, _uuid(index), self._rows(name), meta, loading)

    def _rows(self, name: str) -> int | None:
        try:
            answer = self._cluster.call("GET", f"{path_of(name)}/_count", deadline_s=_ROWS_S)
        except Refused as error:
            if error.failure.type != "search_phase_execution_exception":  # which it is where no shard answers
                raise
            return None
        whole = answer["_shards"]["successful"] == answer["_shards"]["total"]
        return int(answer["count"]) if whole else None

    def _what(self, name: str) -> str:
        return f"index {name} on {self._cluster.url}"


def _is_of_its_node(failure: dict[str, Any]) -> bool:
    """Whether a shard failed because the node that has it went away, which passes when it is back."""
    reason = failure.get("reason") or {}
    return may_pass(failure_of(500, reason.get("caused_by") or reason))


def path_of(name: str) -> str:
    """The path of an index or alias, by exactly this name: OpenSearch reads ``*`` and ``,`` as patterns.

    Raises:
        SettingsError: OpenSearch has no index of such a name.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} cannot be the name of an OpenSearch index: use lower-case letters, digits, - _ . "
                            "beginning with a letter or digit, at most 200")  # fmt: skip
    return f"/{name}"


def dimensions_of(meta: Meta) -> int:
    return int(meta.space["dimensions"])


def _uuid(index: dict[str, Any]) -> str:
    return str(index["settings"]["index"]["uuid"])
