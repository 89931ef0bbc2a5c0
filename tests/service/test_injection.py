"""Whatever a client writes, the index is asked a search of the shape that the question has, of this caller's rows."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from pipelines.search import How
from pipelines.targets.filters import equals
from pipelines.targets.opensearch_search import search_body
from pipelines.targets.target import IndexSettings, Query
from tests.e2e.command import backhaul_here
from tests.fixtures.faulty_opensearch import Act, Request, faulty_opensearch
from tests.service import injections
from tests.service.served import Served, served, tenants_conf

TEXTS = injections.texts()
SETTINGS = IndexSettings.model_validate({"target": "opensearch", "url": "http://127.0.0.1:1"})


def shape(value: Any) -> Any:
    """The keys, and the kinds of what stands under them; a list of vectors' numbers is one thing."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return (
            ["numbers"]
            if value and all(isinstance(each, int | float) for each in value)
            else [shape(each) for each in value]
        )
    return type(value).__name__


@pytest.mark.parametrize("text", ["lexical", "filter value"])
def test_no_text_changes_the_shape_of_a_search(text: str) -> None:
    assert len(TEXTS) >= 1_000
    for injected in TEXTS:
        asked = Query(text=injected, k=10, filters=(equals("tenant", "acme"),)) if text == "lexical" else Query(
            text="steam", k=10, filters=(equals("tenant", injected),))  # fmt: skip
        harmless = Query(text="steam", k=10, filters=(equals("tenant", "acme"),))
        line = orjson.dumps(search_body(asked, SETTINGS))
        assert b"\n" not in line
        assert shape(orjson.loads(line)) == shape(orjson.loads(orjson.dumps(search_body(harmless, SETTINGS))))


def test_no_how_takes_what_is_none() -> None:
    for wrong in ({"mode": "match_all"}, {"fusion": "script"}, {"lexical_weight": math.inf}, {"k": 0}):
        with pytest.raises(Exception, match=r"."):
            How(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def spied(opensearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, list[Request]]]:
    """A service for the tenant acme over a real node, and what it asks the node for."""
    folder = tmp_path_factory.mktemp("spied")
    seen: list[Request] = []

    def note(request: Request) -> Act | None:
        if "search" in request.path:
            seen.append(request)
        return None

    corpus = f"spied{time.time_ns()}"
    index = {"target": "opensearch", "url": opensearch_url, "replicas": 0}
    conf = tenants_conf(folder, corpus=corpus, index=index)
    done = backhaul_here("run", conf, "--json")
    assert done.code == 0, done.err
    with faulty_opensearch(opensearch_url, note) as url:
        off = [word for key in ("vectors", "results") for word in ("--set", f"serve.cache.{key}=0")]
        patient = ("--set", "serve.limits.deadline_s=30")
        with served(conf, "--set", f"index.url={url}", "--tenant", "acme", *off, *patient) as service:
            seen.clear()
            yield service, seen
    backhaul_here("drop", conf, "--yes")


def searches_of(seen: list[Request], generation: str) -> list[list[Any]]:
    """The bodies of each _msearch since the last look. Everything asks this generation alone, and what is no search asks
    for the rows of hits by their ids, and nothing else."""
    found = []
    for request in seen:
        path = request.path.partition("?")[0]
        if path == f"/{generation}/_search":
            body = orjson.loads(request.body)
            ids = body.pop("query")["ids"].pop("values")
            assert body.keys() == {"size", "_source", "track_total_hits", "sort"}
            assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in ids)
            continue
        assert path == f"/{generation}/_msearch"
        lines = [orjson.loads(line) for line in request.body.splitlines()]
        assert lines[::2] == [{"allow_partial_search_results": False}] * (len(lines) // 2)
        found.append(lines[1::2])
    seen.clear()
    return found


def must_be_of(tenant: str, body: dict[str, Any]) -> None:
    """Whose filter stands within the search itself: beside the words, inside the graph's walk, before the script."""
    (kind, query) = next(iter(body["query"].items()))
    inner = {
        "bool": lambda: query,
        "knn": lambda: query["vector"]["filter"]["bool"],
        "script_score": lambda: query["query"]["bool"],
    }
    assert {"term": {"tenant": tenant}} in inner[kind]()["filter"]


def ask_all(spied: tuple[Served, list[Request]], texts: list[str]) -> None:
    service, seen = spied
    expected: dict[str, Any] = {}
    with service.client() as client:
        for place in ("query", "filter"):
            for text in ["steam", *texts]:
                asked = {"query": text} if place == "query" else {"query": "steam", "filter": {"doc_type": text}}
                answer = client.post(
                    "/v1/search", content=orjson.dumps(asked), headers={"content-type": "application/json"}
                )
                assert answer.status_code in (200, 400), (text, answer.text)
                if answer.status_code == 400:
                    continue
                (bodies,) = searches_of(seen, answer.json()["generation"])
                for body in bodies:
                    must_be_of("acme", body)
                assert shape(bodies) == expected.setdefault(place, shape(bodies)), text


@pytest.mark.opensearch
def test_a_part_of_the_corpus_reaches_a_real_index_as_searches_alone(spied: tuple[Served, list[Request]]) -> None:
    ask_all(spied, TEXTS[:60])


@pytest.mark.soak
@pytest.mark.opensearch
@pytest.mark.timeout(1200)
def test_the_whole_corpus_reaches_a_real_index_as_searches_alone(spied: tuple[Served, list[Request]]) -> None:
    ask_all(spied, TEXTS)


@pytest.mark.opensearch
def test_bombs_and_foreign_bodies_are_refused_and_the_next_question_is_answered(
    spied: tuple[Served, list[Request]],
) -> None:
    service, seen = spied
    with service.client() as client:
        for body in injections.bodies():
            answer = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (400, 413), (body[:80], answer.status_code, answer.text[:300])
            assert answer.json()["error"]["message"]
        assert searches_of(seen, "") == []
    assert service.search(query="steam")["hits"]
    seen.clear()


@pytest.mark.opensearch
def test_what_stands_where_a_value_belongs_is_refused_or_is_a_value(spied: tuple[Served, list[Request]]) -> None:
    service, seen = spied
    live = service.search(query="steam")["generation"]
    with service.client() as client:
        for asked in injections.structured():
            answer = client.post("/v1/search", json=asked)
            assert answer.status_code in (200, 400, 403, 404), (asked, answer.text[:300])
            for bodies in searches_of(seen, live):  # also where the index refuses: a number for a keyword, say
                for body in bodies:
                    must_be_of("acme", body)


@pytest.mark.opensearch
@pytest.mark.parametrize(
    "headers",
    [{"x-tenant": "blue"}, {"x-forwarded-for": "10.0.0.1", "forwarded": "for=10.0.0.1"}, {"x-http-method-override": "DELETE"},
     {"content-type": "application/x-ndjson"}, {"accept": "../../"}, {"x-opensearch-product-origin": "x"}, {"host": "evil.example"},
     {"cookie": "tenant=blue"}, {"x-original-url": "/_cluster/settings"}, {"te": "trailers"}],
)  # fmt: skip
def test_headers_change_nothing(spied: tuple[Served, list[Request]], headers: dict[str, str]) -> None:
    service, seen = spied
    answer = httpx.post(
        f"{service.url}/v1/search",
        content=b'{"query":"steam"}',
        headers={"content-type": "application/json", **headers},
    )
    assert answer.status_code in (200, 400, 415)
    if answer.status_code == 200:
        for bodies in searches_of(seen, answer.json()["generation"]):
            for body in bodies:
                must_be_of("acme", body)
    for request in seen:
        assert not {"x-tenant", "x-original-url", "cookie"} & {name.lower() for name in request.headers}


def test_paths_lead_nowhere(service: Served) -> None:
    with service.client() as client:
        for path in (
            "/page/../app.py",
            "/page/%2e%2e/app.py",
            "/page/..%2fapp.py",
            "/_search",
            "/v1/../_cat",
            "/v1/search/x",
            "/page/",
            "//etc/passwd",
        ):
            answer = client.get(path)
            assert answer.status_code in (400, 404, 405), path
