"""What a cluster can do: asked of the real node, told of stand-ins that answer as other kinds do, and refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipelines.errors import SettingsError, TargetError
from pipelines.targets.opensearch_capabilities import Ability, Capabilities, refusals
from pipelines.targets.target import IndexSettings, Query
from tests.fixtures.faulty_opensearch import Act, Answer, Request, error_of, faulty_opensearch
from tests.targets.opensearch_case import DIMENSIONS, Case, chunks, table, vectors

YES = Ability(True)
DOMAIN = Capabilities("managed domain", None, (3, 5, 0), YES, YES, YES, YES, YES, YES, YES, YES, YES)


def settings(**values: Any) -> IndexSettings:
    return IndexSettings.model_validate({"target": "opensearch", "url": "http://127.0.0.1:1", **values})


class TestRealNode:
    def test_it_tells_what_it_has_and_what_it_lacks(self, opensearch_url: str) -> None:
        able = Case(opensearch_url).target().capabilities()
        assert able["service"] == "plain"
        assert able["version"].count(".") == 2
        assert able["knn"].startswith("yes: ")
        assert able["ids"] == able["refresh"] == able["cluster_settings"] == able["templates"] == able["exact"] == "yes"
        assert able["hybrid"].startswith("no: there is no score-ranker-processor")
        assert able["gpu_build"].startswith("no: set knn.remote_index_build.enabled")

    def test_native_libraries_stay_unknown_whatever_was_done_without_them(self, opensearch_url: str) -> None:
        """A mapping of faiss makes ``faiss_initialized`` true and proves nothing; lucene's graphs are not native."""
        case = Case(opensearch_url)
        try:
            case.target(engine="faiss", faiss_installed=True).create(case.name, case.meta, DIMENSIONS)
            case.target().drop(case.name)
            case.create()
            target = case.target()
            target.begin_load(case.name)
            target.load(case.name, [table(chunks(0, 50))])
            target.finish_load(case.name)
            target.search(case.name, [Query(vector=vectors(1)[0])])
            stats = case.send("GET", "/_plugins/_knn/stats/faiss_initialized")["nodes"]
            assert all(node["faiss_initialized"] for node in stats.values())
            assert (
                case.target().capabilities()["native"].startswith("unknown: no node has made or loaded a native graph")
            )
        finally:
            case.target().drop(case.name)

    def test_faiss_is_refused_before_anything_is_made(self, opensearch_url: str) -> None:
        case = Case(opensearch_url)
        target = case.target(engine="faiss")
        with pytest.raises(
            SettingsError, match=r"(?s)index\.engine: faiss needs native libraries.*faiss_installed: true"
        ):
            target.create(case.name, case.meta, DIMENSIONS)
        assert case.target().find(case.name) is None
        assert len(target.refusals()) == 1

    def test_what_every_cluster_has_costs_no_question(self, opensearch_url: str) -> None:
        asked = []

        def rule(request: Request) -> None:
            asked.append(request.path)

        with faulty_opensearch(opensearch_url, rule) as url:
            assert Case(opensearch_url).target(url=url).refusals() == []
        assert asked == ["/"]


@pytest.mark.parametrize(
    ("values", "version", "said"),
    [
        ({"engine": "faiss"}, (2, 17, 0), "index.engine: faiss needs OpenSearch 2.19; this cluster has 2.17.0"),
        ({"vectors": "byte"}, (2, 7, 0), "index.vectors: byte needs OpenSearch 2.9"),
        ({"compression": 4}, (2, 16, 0), "index.compression needs OpenSearch 2.17"),
        ({"on_disk": True}, (2, 16, 0), "index.on_disk needs OpenSearch 2.17"),
        ({"engine": "faiss", "on_disk": True, "compression": 1}, (3, 0, 0), "index.on_disk needs OpenSearch 3.1"),
        ({"engine": "faiss", "gpu_build": True}, (2, 19, 0), "index.gpu_build needs OpenSearch 3.0"),
        ({"engine": "faiss", "gpu_build": True, "compression": 8}, (3, 1, 0), "index.gpu_build needs OpenSearch 3.2"),
        ({"derived_source": True}, (2, 19, 0), "index.derived_source needs OpenSearch 3.0"),
    ],
)  # fmt: skip
def test_what_a_version_lacks_is_refused_by_name(values: Any, version: tuple[int, ...], said: str) -> None:
    (found,) = refusals(settings(**values), replace(DOMAIN, version=version))
    assert found.startswith(said)
    assert refusals(settings(**values), DOMAIN) == []


@pytest.mark.parametrize(
    ("values", "lacking", "said"),
    [
        ({"engine": "faiss"}, {"native": Ability(False, "x")}, "native libraries"),
        ({"engine": "faiss", "gpu_build": True}, {"gpu_build": Ability(False, "set that")}, "a remote build service: set that"),
        ({"compression": 4}, {"knn": Ability(False, "install it")}, "needs the k-NN plugin on every node: install it"),
    ],
)  # fmt: skip
def test_what_a_cluster_lacks_is_refused_with_what_it_said(values: Any, lacking: Any, said: str) -> None:
    (found,) = refusals(settings(**values), replace(DOMAIN, **lacking))
    assert said in found


def test_faiss_is_taken_where_the_user_knows_that_it_is_installed() -> None:
    unknown = replace(DOMAIN, native=Ability(None, "not told"))
    assert len(refusals(settings(engine="faiss"), unknown)) == 1
    assert refusals(settings(engine="faiss", faiss_installed=True), unknown) == []


class TestOtherNodes:
    """A real node behind answers that others would give."""

    def able(self, node: str, answers: dict[str, Answer]) -> dict[str, str]:
        def rule(request: Request) -> Act | None:
            return next((answer for path, answer in answers.items() if path in request.path), None)

        with faulty_opensearch(node, rule) as url:
            return Case(node).target(url=url).capabilities()

    def test_what_a_user_may_not_ask_is_unknown_and_not_refused(self, opensearch_url: str) -> None:
        denied = Answer(403, error_of("security_exception", "no permissions for [cluster:monitor/nodes/info]"))
        paths = ("/_nodes", "/_plugins/_knn", "/_cluster/settings", "/_index_template")
        able = self.able(opensearch_url, dict.fromkeys(paths, denied))
        for name in ("knn", "native", "gpu_build", "hybrid"):
            assert able[name].startswith("unknown: GET /"), name
            assert "no permissions" in able[name]
        assert able["cluster_settings"].startswith("no: 403")
        assert able["templates that match"] == "unknown: this user may not ask"

    def test_a_node_that_made_native_graphs_and_fuses_and_has_a_build_service_says_so(
        self, opensearch_url: str
    ) -> None:
        stats = {"load_success_count": 0, "graph_index_requests": 3, "graph_index_errors": 0}
        build = {f"knn.remote_index_build.{name}": value for name, value in
                 {"enabled": "true", "repository": "vectors", "service.endpoint": "https://gpu:8443"}.items()}  # fmt: skip
        phases = [{"type": "normalization-processor"}, {"type": "score-ranker-processor"}]
        able = self.able(opensearch_url, {
            "/_plugins/_knn/stats": Answer(200, {"nodes": {"a": stats}}),
            "/_cluster/settings": Answer(200, {"persistent": build}),
            "/_nodes/search_pipelines": Answer(200, {"nodes": {"a": {"search_pipelines": {"phase_results_processors": phases}}}}),
        })  # fmt: skip
        assert able["native"].startswith("yes: graphs were made or loaded on 1 of 1 nodes")
        assert able["gpu_build"] == able["hybrid"] == "yes"

    def test_a_node_without_the_plugin_is_told_apart_from_those_with_it(self, opensearch_url: str) -> None:
        nodes = {"a": {"plugins": [{"name": "opensearch-knn", "version": "3.5.0.0"}]}, "b": {"plugins": []}}
        able = self.able(opensearch_url, {"/_nodes/plugins": Answer(200, {"nodes": nodes})})
        assert able["knn"] == "no: install the k-NN plugin on every node"


@dataclass
class Serverless:
    """A collection and AWS's control API in one, as far as Backhaul would ask. Refuses what the real one refuses: "Supported
    operations and plugins in Amazon OpenSearch Serverless", and "Collection types" of Migration Assistant's guide.

    Its lies: it keeps nothing, and says nothing of signatures.
    """

    kind: str
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if request.headers.get("X-Amz-Target", "").endswith("BatchGetCollection"):
            return Answer(
                200, {"collectionDetails": [{"id": "127", "name": "papers", "type": self.kind}] if self.kind else []}
            )
        self.asked.append(f"{request.method} {request.path}")
        if request.method == "PUT" and request.path.count("/") == 1:
            return Answer(200, {"acknowledged": True, "shards_acknowledged": True, "index": request.path[1:]})
        if request.path.startswith(("/_index_template", "/_template")):
            return Answer(200, {})
        return Answer(404, b"")  # GET /, _cluster, _nodes, _refresh, _forcemerge, _plugins/_knn/warmup


class TestServerless:
    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    @pytest.mark.parametrize(
        ("kind", "said"),
        [("VECTORSEARCH", "a VECTORSEARCH collection refuses ids of our own"),
         ("TIMESERIES", "a TIMESERIES collection refuses ids of our own and has no vectors"),
         ("SEARCH", "a SEARCH collection keeps ids but has no vectors"),
         ("", "no type of collection takes both ids of our own and vectors (unknown: there is no collection 127)")],
    )  # fmt: skip
    def test_each_type_of_collection_is_refused_with_its_reason_before_anything_is_made(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
    ) -> None:
        collection = Serverless(kind)
        with faulty_opensearch("http://127.0.0.1:1", collection) as url:
            monkeypatch.setenv("AWS_ENDPOINT_URL_OPENSEARCHSERVERLESS", url)
            case = Case(url)
            target = case.target(service="aoss", region="eu-west-1")
            with pytest.raises(SettingsError) as raised:
                target.create(case.name, case.meta, DIMENSIONS)
            able, described = target.capabilities(), target.describe()
        assert said in str(raised.value)
        assert "recall against exact search cannot be verified" in str(raised.value)
        assert [line for line in collection.asked if line.startswith(("PUT", "POST"))] == []
        assert (described["service"], able["version"]) == ("Serverless", "unknown")
        assert able["refresh"].startswith("no: ")
        assert able["ids"].startswith({"SEARCH": "yes", "": "unknown"}.get(kind, "no"))

    def test_without_leave_to_ask_for_the_type_the_reasons_are_told_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rule(request: Request) -> Answer:
            return Answer(400, {"__type": "AccessDeniedException", "message": "not authorized"})

        with (
            faulty_opensearch("http://127.0.0.1:1", Serverless("SEARCH")) as url,
            faulty_opensearch(url, rule) as control,
        ):
            monkeypatch.setenv("AWS_ENDPOINT_URL_OPENSEARCHSERVERLESS", control)
            refused = Case(url).target(service="aoss", region="eu-west-1").refusals()
        assert "AccessDeniedException" in refused[0]
        assert "aoss:BatchGetCollection" in refused[0]


def test_a_plain_address_that_answers_404_is_no_serverless_collection() -> None:
    with (
        faulty_opensearch("http://127.0.0.1:1", lambda request: Answer(404, b"")) as url,
        pytest.raises(TargetError, match="404"),
    ):
        Case(url).target()
