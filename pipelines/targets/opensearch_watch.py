"""Looks at what would make the nodes refuse writes, before they do. Sends no documents and changes nothing.

Two conditions are cheaper to wait out than to meet: a parent circuit breaker near its limit (requests of everybody are
refused, searches too), and a disk near the flood stage (every index with a shard there becomes read-only, and stays it
until somebody frees space).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_failures import Refused

log = logging.getLogger(__name__)
_EVERY_S = 5.0
_SHORTEST_PAUSE_S, _PAUSE_S, _LONG_PAUSE_S = 0.25, 1.0, 2.0
_READ_S = 3.0
_BREAKER_SHARE = 0.95
_MARGIN = 0.01  # of the disk, before its flood stage
_STATS = "nodes.*.name,nodes.*.breakers.parent.*_in_bytes,nodes.*.fs.total.*_in_bytes"
_DISK = "cluster.routing.allocation.disk."
_UNITS = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40, "pb": 1 << 50}


class Watch:
    """Thread-safe enough for one producer. A cluster that does not tell (a managed one may deny it) is not watched."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next_at = 0.0
        self.blind = False  # it does not tell

    def hold_back(self, stop: threading.Event) -> None:
        """Return when nothing speaks against sending; looks every few seconds only.

        Raises:
            TargetHalted: a node stayed too full for the cluster's deadline.
        """
        if self.blind or time.monotonic() < self._next_at:
            return
        began, pause_s = time.monotonic(), _SHORTEST_PAUSE_S
        while reason := self._reason():
            if pause_s == _PAUSE_S:  # a heap that is collected a moment later is not worth a word
                log.warning("OpenSearch at %s: loading pauses: %s", self._cluster.url, reason)
            if time.monotonic() - began > self._cluster.deadline_s:
                raise self._cluster.halted(f"loading paused for {self._cluster.deadline_s:.0f} s and is given up: {reason}. "
                                           "Then run `backhaul load CONF` to resume")  # fmt: skip
            if stop.wait(pause_s):
                return
            pause_s = pause_s * 2 if pause_s <= _PAUSE_S else _LONG_PAUSE_S
        if pause_s > _PAUSE_S:
            log.warning("OpenSearch at %s: loading goes on after %.0f s", self._cluster.url, time.monotonic() - began)
        self._next_at = time.monotonic() + _EVERY_S

    def _reason(self) -> str | None:
        """Why to wait, with what to do; None when all is well, or cannot be known."""
        try:
            stats = self._cluster.once(
                "GET", "/_nodes/stats/breaker,fs", params={"filter_path": _STATS}, read_s=_READ_S
            )
            nodes = stats.get("nodes", {}).values()
            return next((reason for node in nodes if (reason := _breaker(node))), None) or self._disk(list(nodes))
        except Refused as error:
            if error.failure.status in (400, 401, 403, 404, 405):
                log.info("OpenSearch at %s does not show its nodes' state; it is not watched", self._cluster.url)
                self.blind = True
            return None

    def _disk(self, nodes: list[dict[str, Any]]) -> str | None:
        params = {"include_defaults": "true", "flat_settings": "true", "filter_path": f"*.{_DISK.replace('.', '*')}"}
        found = self._cluster.once("GET", "/_cluster/settings", params=params, read_s=_READ_S)
        settings: dict[str, Any] = {
            **found.get("defaults", {}),
            **found.get("persistent", {}),
            **found.get("transient", {}),
        }
        if str(settings.get(f"{_DISK}threshold_enabled", "true")) != "true":
            return None
        flood = str(settings.get(f"{_DISK}watermark.flood_stage", "95%"))
        for node in nodes:
            total, free = (
                node.get("fs", {}).get("total", {}).get(f"{name}_in_bytes", 0) for name in ("total", "available")
            )
            if total and free <= free_at(flood, total) + _MARGIN * total:
                return (f"the disk of node {node['name']} has {free / 2**30:.1f} of {total / 2**30:.0f} GiB free, and OpenSearch "
                        f"makes indices read-only at its flood stage ({flood}); free space there, add nodes, or drop "
                        "generations (`backhaul list CONF`, `backhaul drop CONF --generation NAME`)")  # fmt: skip
        return None


def free_at(watermark: str, total: int) -> float:
    """Bytes that are free when a watermark is reached: ``95%`` or ``0.95`` are of what is used, ``500mb`` is free."""
    if watermark.endswith("%"):
        return total * (1 - float(watermark[:-1]) / 100)
    number = watermark.rstrip("kmgtpb")
    unit = watermark[len(number) :]
    return float(number) * _UNITS[unit] if unit else total * (1 - float(number))


def _breaker(node: dict[str, Any]) -> str | None:
    parent = node.get("breakers", {}).get("parent", {})
    limit, used = parent.get("limit_size_in_bytes", 0), parent.get("estimated_size_in_bytes", 0)
    if not limit or used < limit * _BREAKER_SHARE:
        return None
    return (f"node {node['name']} uses {used / 2**20:.0f} MiB of the {limit / 2**20:.0f} MiB that its circuit breaker allows "
            "(indices.breaker.total.limit); lower the load on it, or give it more heap")  # fmt: skip
