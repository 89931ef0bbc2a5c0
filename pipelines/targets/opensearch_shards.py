"""Where the shards of an index are: waits for primaries and replicas, and says which shards no node holds any more.

Knows health and allocation; knows no rows, settings or mappings.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from pipelines.targets.opensearch_cluster import Cluster, segment
from pipelines.targets.opensearch_failures import Refused

_POLL_S = 1.0
_SAY_EVERY_S = 15.0
_STALLED_S = 120.0  # copies of shards of which none came nearer for so long will not come by themselves
_EXPLAIN = "GET /_cluster/allocation/explain says why"

log = logging.getLogger(__name__)


class Shards:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def wait_for_primaries(self, name: str) -> int:
        """How many primaries there are, when all of them are. A node that restarts is waited for."""
        wait = _Wait(f"{name}: waiting for primary shards", self._cluster.deadline_s)
        while True:
            health = self._health(name)
            primaries = int(health["indices"][name]["number_of_shards"])
            if (there := health["active_primary_shards"]) == primaries:
                return primaries
            if not wait.goes_on(there):
                raise self._cluster.error(f"{primaries - there} of {primaries} primary shards of {name} stayed away for "
                                          f"{wait.stalled_s:.0f} s; {_EXPLAIN}. `backhaul load CONF` goes on, or makes "
                                          "the generation anew where no node holds them any more")  # fmt: skip

    def wait_for_replicas(self, name: str, replicas: int) -> None:
        """Until every copy that the data nodes have room for is there; a warning where they have not room for all.

        Raises:
            TargetError: none of the missing ones came nearer for two minutes.
        """
        wait = _Wait(f"{name}: copying shards to {replicas} replicas", _STALLED_S)
        warned = False
        while True:
            health = self._health(name)
            shards, nodes = int(health["indices"][name]["number_of_shards"]), int(health["number_of_data_nodes"])
            if nodes <= replicas and not warned:
                warned = True
                log.warning("%s: index.replicas is %d, and %d data nodes have room for %d: should a node be lost, rows may be. "
                            "Add nodes, or set index.replicas to what there is room for", name, replicas, nodes, nodes - 1)  # fmt: skip
            there, wanted = int(health["active_shards"]), shards * min(nodes, replicas + 1)
            if there >= wanted:
                return
            if not wait.goes_on((there, self._bytes_copied(name)), f"{there} of {wanted} copies are there"):
                raise self._cluster.error(f"{there} of {wanted} copies of the shards of {name} are there, and none came nearer "
                                          f"in {wait.stalled_s:.0f} s; {_EXPLAIN}. Then `backhaul load CONF` goes on")  # fmt: skip

    def lost(self, name: str) -> list[int]:
        """Shards of an index that is there which no node of the cluster holds. They are waited for first, as the node
        that has them may be restarting; empty too where the cluster does not tell."""
        wait = _Wait(f"{name}: shards are gone; waiting for the node that has them", self._cluster.deadline_s)
        while True:
            shards = self._health(name)["indices"][name]["shards"]
            gone = [int(number) for number, shard in shards.items()
                    if not shard["primary_active"] and self._is_nowhere(name, int(number))]  # fmt: skip
            if not gone or not wait.goes_on(len(gone)):
                return sorted(gone)

    def _health(self, name: str) -> Any:  # Any: JSON
        return self._cluster.call("GET", f"/_cluster/health/{segment(name)}", params={"level": "shards"})

    def _is_nowhere(self, name: str, number: int) -> bool:
        about = {"index": name, "shard": number, "primary": True}
        try:
            found = self._cluster.call("POST", "/_cluster/allocation/explain", about)
        except Refused as error:
            if error.failure.status in (400, 403, 404, 405):
                return False
            raise
        return bool(found.get("can_allocate") == "no_valid_shard_copy")

    def _bytes_copied(self, name: str) -> int:
        params = {"active_only": "true", "filter_path": "*.shards.index.size.recovered_in_bytes"}
        recovering = self._cluster.call("GET", f"/{segment(name)}/_recovery", params=params)
        return sum(shard["index"]["size"]["recovered_in_bytes"]
                   for index in recovering.values() for shard in index["shards"])  # fmt: skip


class _Wait:
    """A wait that lasts as long as something changes, and says now and then that it lasts."""

    def __init__(self, what: str, stalled_s: float) -> None:
        self._what = what
        self.stalled_s = stalled_s
        self._changed_at = time.monotonic()
        self._said_at = self._changed_at
        self._state: Any = None  # Any: compared and no more

    def goes_on(self, state: Any, so_far: str = "") -> bool:
        """Sleep before the next look; False when ``state`` has been the same for ``stalled_s``."""
        now = time.monotonic()
        if state != self._state:
            self._state, self._changed_at = state, now
        if now - self._changed_at >= self.stalled_s:
            return False
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            log.warning("%s%s", self._what, f": {so_far}" if so_far else "")
        time.sleep(_POLL_S)
        return True
