"""Whether a generation is as its settings leave it, with every copy in place. Changes nothing."""

from __future__ import annotations

import time
from typing import Any

from pipelines.errors import SettingsError
from pipelines.targets.opensearch_cluster import Cluster, segment
from pipelines.targets.opensearch_failures import Refused, may_pass
from pipelines.targets.target import Health

_ASK_S = 30.0


def health_of(cluster: Cluster, name: str, settings: dict[str, Any], replicas: int, wait_s: float) -> Health:
    """``settings`` are the index's own; ``replicas`` those that a generation is to have."""
    there, refresh = int(settings.get("number_of_replicas", 0)), settings.get("refresh_interval")
    state = _state(cluster, name)
    placed = f"{state['status']}, {there} replicas, {state['number_of_data_nodes']} data nodes"
    if advice := _too_few(state["number_of_data_nodes"], replicas):
        return Health(False, placed, advice)
    if refresh == "-1" or there < replicas:
        return Health(False, f"{placed}{', still set for loading: refresh off' if refresh == '-1' else ''}")
    until = time.monotonic() + wait_s
    while state["status"] != "green" and there <= replicas and time.monotonic() < until:
        state = _state(cluster, name, wait_s=min(_ASK_S, max(1.0, until - time.monotonic())))
    missing = state["unassigned_shards"] + state["initializing_shards"]
    found = f"{state['status']}, {there} replicas, {state['number_of_data_nodes']} data nodes"
    if state["status"] == "green":
        return Health(True, found)
    found = f"{found}, {missing} copies of shards missing"
    if there > replicas:  # somebody set more than the settings ask for: setting them again is all it takes
        return Health(False, found)
    return Health(False, found, f"see GET /_cluster/allocation/explain; once {name} is green, `backhaul verify CONF`")


def must_have_room(cluster: Cluster, replicas: int) -> None:
    """Raises SettingsError where the cluster has too few data nodes for the copies that the settings ask for: their
    generation could never be proved. Nothing is said where the cluster does not tell."""
    if replicas == 0:
        return
    try:
        nodes = cluster.call("GET", "/_cluster/health", params={"filter_path": "number_of_data_nodes"})
    except Refused as error:
        if may_pass(error.failure):
            raise
        return
    if advice := _too_few(nodes.get("number_of_data_nodes", replicas + 1), replicas):
        raise SettingsError(f"OpenSearch at {cluster.url}: {advice}")


def _too_few(data_nodes: int, replicas: int) -> str:
    """OpenSearch never puts two copies of a shard on one node."""
    if data_nodes > replicas:
        return ""
    return (f"index.replicas {replicas} takes {replicas + 1} data nodes and the cluster has {data_nodes}: bring up another "
            f"node, or set index.replicas {max(0, data_nodes - 1)} and `backhaul run CONF`, which embeds nothing again")  # fmt: skip


def _state(cluster: Cluster, name: str, *, wait_s: float = 0.0) -> dict[str, Any]:
    path = f"/_cluster/health/{segment(name)}"
    if wait_s:
        try:
            params = {"wait_for_status": "green", "timeout": f"{int(wait_s)}s"}
            cluster.call("GET", path, params=params)
        except Refused as error:
            if error.failure.status != 408:  # it did not become green in this time
                raise
    found: dict[str, Any] = cluster.call("GET", path)
    return found
