"""What stands behind an address and what it can do, asked without changing anything there. Knows no index of ours.

A k-NN plugin without its native libraries ends the node at the first refresh of a faiss index, so no such index is ever
made to find out; what cannot be known is "unknown", with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from pipelines.errors import SettingsError
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_failures import Refused, may_pass
from pipelines.targets.target import IndexSettings

RRF = "score-ranker-processor"
_BUILD_SERVICE = ("enabled", "repository", "service.endpoint")  # of the cluster's settings below knn.remote_index_build


@dataclass(frozen=True, slots=True)
class Ability:
    """``able`` None: unknown. ``why`` is a reason, or what was found."""

    able: bool | None
    why: str = ""

    def __str__(self) -> str:
        word = {True: "yes", False: "no", None: "unknown"}[self.able]
        return f"{word}: {self.why}" if self.why else word


@dataclass(frozen=True, slots=True)
class Capabilities:
    """``collection`` is the type of a Serverless collection, None elsewhere; ``version`` () where it is not told."""

    service: str  # plain | managed domain | Serverless
    collection: str | None
    version: tuple[int, ...]
    knn: Ability
    native: Ability  # faiss
    gpu_build: Ability
    hybrid: Ability  # reciprocal rank fusion of a hybrid query
    ids: Ability  # documents under ids of our own
    refresh: Ability
    cluster_settings: Ability
    templates: Ability
    exact: Ability  # search by a k-NN script

    def rows(self) -> dict[str, str]:
        """A line each, for people and for JSON."""
        said = {name: str(getattr(self, name)) for name in (each.name for each in fields(self))}
        said["version"] = ".".join(map(str, self.version)) or "unknown"
        said["service"] = f"{self.service} {self.collection}" if self.collection else self.service
        del said["collection"]
        return said


def service_of(settings: IndexSettings) -> str:
    """What stands behind the address, by its name and by what the settings say of it."""
    host = urlsplit(settings.url or "").hostname or ""
    if settings.service == "aoss" or host.endswith(".aoss.amazonaws.com"):
        return "Serverless"
    return "managed domain" if host.endswith((".es.amazonaws.com", ".aos.amazonaws.com", ".on.aws")) else "plain"


def probe(cluster: Cluster, settings: IndexSettings, about: dict[str, Any]) -> Capabilities:
    """``about`` is the answer to ``GET /``; nothing where there is none.

    Raises:
        Refused: nobody answers. A question that this user may not ask leaves an "unknown".
    """
    service = service_of(settings)
    if service == "Serverless":
        return _serverless(settings)
    version = tuple(map(int, re.findall(r"\d+", str(about.get("version", {}).get("number", "")))[:3]))
    hybrid = _hybrid(cluster)
    return Capabilities(
        service=service, collection=None, version=version, knn=_knn(cluster), native=_native(cluster, service),
        gpu_build=_gpu_build(cluster), hybrid=hybrid, ids=Ability(True), refresh=Ability(True),
        cluster_settings=_allowed(cluster, "/_cluster/settings"), templates=_allowed(cluster, "/_index_template"),
        exact=Ability(True))  # fmt: skip


def _ask(cluster: Cluster, path: str, params: dict[str, Any] | None = None) -> Any:  # Any: JSON, or the refusal
    try:
        return cluster.call("GET", path, params=params)
    except Refused as error:
        if may_pass(error.failure):
            raise
        return error.failure


def _allowed(cluster: Cluster, path: str) -> Ability:
    answer = _ask(cluster, path, {"filter_path": "none"})
    return Ability(True) if isinstance(answer, dict) else Ability(False, str(answer))


def _knn(cluster: Cluster) -> Ability:
    # With the version, so that a node without plugins is in the answer too.
    asked = "nodes.*.version,nodes.*.plugins.name,nodes.*.plugins.version"
    answer = _ask(cluster, "/_nodes/plugins", {"filter_path": asked})
    if not isinstance(answer, dict):
        return Ability(None, f"GET /_nodes/plugins: {answer}")
    found = [{each["name"]: each["version"] for each in node.get("plugins", [])}.get("opensearch-knn")
             for node in answer.get("nodes", {}).values()]  # fmt: skip
    if not found or None in found:
        return Ability(False, "install the k-NN plugin on every node")
    return Ability(True, ", ".join(sorted(set(map(str, found)))))


def _native(cluster: Cluster, service: str) -> Ability:
    """A graph that the native library made or loaded is the only proof: ``faiss_initialized`` is true as soon as a
    mapping names faiss, libraries or not (seen with 3.5)."""
    if service == "managed domain":
        return Ability(True, "AWS installs the native libraries")
    answer = _ask(cluster, "/_plugins/_knn/stats/load_success_count,graph_index_requests,graph_index_errors")
    if not isinstance(answer, dict):
        return Ability(None, f"GET /_plugins/_knn/stats: {answer}")
    nodes = list(answer.get("nodes", {}).values())
    proved = [node for node in nodes if node.get("load_success_count", 0) > 0
              or node.get("graph_index_requests", 0) > node.get("graph_index_errors", 0)]  # fmt: skip
    if proved:
        return Ability(True, f"graphs were made or loaded on {len(proved)} of {len(nodes)} nodes since they started")
    return Ability(None, "no node has made or loaded a native graph since it started, and no request tells whether the "
                         "libraries are installed")  # fmt: skip


def _gpu_build(cluster: Cluster) -> Ability:
    params = {"include_defaults": "true", "flat_settings": "true", "filter_path": "*.knn.remote_index_build*"}
    answer = _ask(cluster, "/_cluster/settings", params)
    if not isinstance(answer, dict):
        return Ability(None, f"GET /_cluster/settings: {answer}")
    found = {**answer.get("defaults", {}), **answer.get("persistent", {}), **answer.get("transient", {})}
    set_to = {name: str(found.get(f"knn.remote_index_build.{name}", "")) for name in _BUILD_SERVICE}
    wrong = [name for name, value in set_to.items() if value in ("", "false")]
    if wrong:
        return Ability(
            False, "set " + ", ".join(f"knn.remote_index_build.{name}" for name in wrong) + " of the cluster"
        )
    return Ability(True)


def _hybrid(cluster: Cluster) -> Ability:
    answer = _ask(
        cluster, "/_nodes/search_pipelines", {"filter_path": "nodes.*.search_pipelines.phase_results_processors"}
    )
    if not isinstance(answer, dict):
        return Ability(None, f"GET /_nodes/search_pipelines: {answer}")
    nodes = list(answer.get("nodes", {}).values())
    have = [RRF in {each["type"] for each in node["search_pipelines"]["phase_results_processors"]} for node in nodes]
    return Ability(True) if have and all(have) else Ability(False, f"there is no {RRF} (neural-search plugin, 2.19)")


def _serverless(settings: IndexSettings) -> Capabilities:
    """From AWS's developer guide: "Supported operations and plugins in Amazon OpenSearch Serverless", "Working with
    vector search collections" (limitations) and, of ids, Migration Assistant's "Collection types"."""
    kind, why = _collection(settings)
    absent = Ability(False, "Serverless has no such call")
    vectors = Ability(kind == "VECTORSEARCH" if kind else None, why or f"collection of type {kind}")
    ids = Ability(kind == "SEARCH" if kind else None, why or f"collection of type {kind}")
    return Capabilities(
        service="Serverless", collection=kind, version=(), knn=vectors, native=vectors, gpu_build=absent,
        hybrid=Ability(None, "not asked for"), ids=ids, refresh=absent, cluster_settings=absent, templates=Ability(True),
        exact=Ability(False, "Serverless runs no scripts"))  # fmt: skip


def _collection(settings: IndexSettings) -> tuple[str | None, str]:
    """The collection's type, or None and why it is not known. The endpoint begins with the collection's id."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    name = (urlsplit(settings.url or "").hostname or "").partition(".")[0]
    try:
        client = boto3.client("opensearchserverless", region_name=settings.region)
        found = client.batch_get_collection(ids=[name])["collectionDetails"]
    except (BotoCoreError, ClientError) as error:
        return None, f"aoss:BatchGetCollection: {error}"
    return (str(found[0]["type"]), "") if found else (None, f"there is no collection {name}")


def refusals(settings: IndexSettings, found: Capabilities) -> list[str]:
    """Why a generation cannot be made there with these settings, a sentence each; none: it can.

    Versions are those that the OpenSearch documentation names for each feature.
    """
    if found.service == "Serverless":
        return _against_serverless(found)
    wrong = []

    def needs(key: str, version: tuple[int, int]) -> None:
        if found.version < version:
            here = found.rows()["version"]
            wrong.append(f"index.{key} needs OpenSearch {version[0]}.{version[1]}; this cluster has {here}")

    if found.knn.able is False:
        wrong.append(f"an index of vectors needs the k-NN plugin on every node: {found.knn.why}")
    if settings.engine == "faiss":
        needs("engine: faiss", (2, 19))  # with cosine similarity
        if not (found.native.able or settings.faiss_installed):
            wrong.append("index.engine: faiss needs native libraries, without which a node ends at the first refresh; here "
                         f"it is {found.native}. Where you know that every node has them, set index.faiss_installed: true")  # fmt: skip
    if settings.vectors == "byte":
        needs("vectors: byte", (2, 9))
    if settings.on_disk:
        needs("on_disk", (3, 1) if settings.times_smaller == 1 else (2, 17))
    elif settings.times_smaller > 1:
        needs(f"vectors: {settings.vectors}" if settings.vectors != "float" else "compression", (2, 17))
    if settings.derived_source is not None:
        needs("derived_source", (3, 0))
    if settings.gpu_build:
        needs("gpu_build", (3, 0) if settings.times_smaller == 1 else (3, 2))
        if found.gpu_build.able is False:
            wrong.append(f"index.gpu_build needs a remote build service: {found.gpu_build.why}")
    return wrong


def must_support(settings: IndexSettings, found: Capabilities) -> None:
    """Raises SettingsError with every refusal."""
    if wrong := refusals(settings, found):
        raise SettingsError(f"OpenSearch at {settings.url} cannot hold this index:\n  " + "\n  ".join(wrong))


def _against_serverless(found: Capabilities) -> list[str]:
    """Rows are written under their chunk ids, so that a repeat is harmless; a generation goes live only after its recall
    was measured against exact search, and after it was merged and refreshed."""
    reasons = {
        "VECTORSEARCH": "a VECTORSEARCH collection refuses ids of our own, which make a repeated load harmless",
        "TIMESERIES": "a TIMESERIES collection refuses ids of our own and has no vectors",
        "SEARCH": "a SEARCH collection keeps ids but has no vectors; those of type VECTORSEARCH have no ids of our own",
    }
    kind = reasons.get(
        found.collection or "", f"no type of collection takes both ids of our own and vectors ({found.ids})"
    )
    return [f"{kind}. Use a managed domain",
            "Serverless runs no k-NN script, so recall against exact search cannot be verified",
            "Serverless has no _refresh, _forcemerge, warm-up or cluster health, so a finished load cannot be told"]  # fmt: skip
