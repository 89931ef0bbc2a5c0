"""Questions over HTTP against the real service: hits, filters, pages, groups, explanations, documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.service.served import TENANTS, Served, served


@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
def test_hits_come_best_first_with_what_was_promised(service: Served, mode: str) -> None:
    found = service.search(query="wagons in the steam yard", mode=mode, k=7)
    assert len(found["hits"]) == 7
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert found["generation"].startswith("tenants-")
    assert all(hit["vector"] is None and hit["sources"] is None for hit in found["hits"])


def test_highlights_are_words_of_the_query_in_the_text(service: Served) -> None:
    hit = service.search(query="wagons", mode="lexical", k=1)["hits"][0]
    words = {hit["text"][start:end] for start, end in hit["highlights"]}
    assert words
    assert words <= {"wagon", "wagons", "wagoning"}
    assert service.search(query="wagons", mode="lexical", k=1, highlight=False)["hits"][0]["highlights"] == []


def test_explain_says_where_each_side_had_a_hit(service: Served) -> None:
    sides = {mode: service.search(query="river stone", mode=mode, k=50, explain=True) for mode in ("lexical", "vector")}
    for hit in service.search(query="river stone", k=5, explain=True)["hits"]:
        expected = 0.0
        for side, place in hit["sources"].items():
            alone = next(other for other in sides[side]["hits"] if other["id"] == hit["id"])
            assert alone["sources"] == {side: place}
            expected += 1 / (60 + place["rank"])
        assert hit["score"] == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
@pytest.mark.parametrize("group", [False, True])
def test_pages_follow_one_another_without_gap_or_double(service: Served, mode: str, group: bool) -> None:
    asked: dict[str, Any] = {"query": "steam river night", "mode": mode, "group_by_document": group}
    whole = [hit["id"] for hit in service.search(**asked, k=40)["hits"]]
    paged: list[str] = []
    cursor = None
    while len(paged) < len(whole):
        page = service.search(**asked, k=6, cursor=cursor)
        paged += [hit["id"] for hit in page["hits"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert paged[: len(whole)] == whole
    assert len(set(paged)) == len(paged)


def test_paging_ends_where_the_service_looks_no_deeper(service: Served) -> None:
    cursor, seen = None, 0
    while True:
        page = service.search(query="steam", mode="vector", k=30, cursor=cursor)
        seen, cursor = seen + len(page["hits"]), page["cursor"]
        if cursor is None:
            break
    assert seen == 100


def test_a_document_is_there_once_where_hits_are_grouped(service: Served) -> None:
    hits = service.search(query="steam", k=20, group_by_document=True, with_vectors=True)["hits"]
    assert all(len(hit["vector"]) == 32 for hit in hits)
    with service.client() as client:
        assert client.post("/v1/search", json={"query": "steam", "k": 20}).json()["hits"] != hits


@pytest.mark.parametrize(
    ("condition", "holds"),
    [({"doc_type": "faq"}, lambda hit: hit["doc_type"] == "faq"),
     ({"tenant": ["acme", "blue"]}, lambda hit: True),
     ({"date": {"from": "2024-03", "to": "2024-05"}}, lambda hit: "2024-03" <= hit["date"] < "2024-06"),
     ({"date": "2024-07"}, lambda hit: hit["date"].startswith("2024-07")),
     ({"date": {"from": "2024-11-15"}}, lambda hit: hit["date"] >= "2024-11-15"),
     ({"doc_type": "faq", "document_id": ["d1", "d2"]}, lambda hit: hit["document_id"] in ("d1", "d2"))],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
def test_every_hit_meets_the_filters(service: Served, mode: str, condition: dict[str, Any], holds: Any) -> None:
    hits = service.search(query="steam river", mode=mode, k=30, filter=condition)["hits"]
    assert hits
    assert all(map(holds, hits))


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_tenant_loses_no_hit_to_the_others(tenants: Path, service: Served, tenant: str) -> None:
    found = service.search(query="night", mode="vector", k=20, filter={"tenant": tenant})
    assert len(found["hits"]) == 20


def test_a_given_vector_is_searched_as_it_is(service: Served) -> None:
    best = service.search(query="stoneyard", k=1, with_vectors=True)["hits"][0]
    found = service.search(vector=best["vector"], mode="vector", k=1)
    assert found["hits"][0]["id"] == best["id"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [({}, "needs query"), ({"query": " "}, "empty"), ({"query": "a", "k": 0}, "k:"), ({"query": "a", "k": 101}, "at most 100"),
     ({"query": "a", "mode": "fuzzy"}, "mode"), ({"query": "a", "colour": "red"}, "colour"),
     ({"query": "a", "filter": {"colour": "red"}}, "filter by one of doc_type"),
     ({"query": "a", "filter": {"date": "yesterday"}}, "is a date"), ({"query": "a", "filter": {"doc_type": {"from": "a"}}}, "no order"),
     ({"query": "a" * 2001}, "2001 characters"), ({"vector": [1.0], "mode": "vector"}, "takes 32"),
     ({"vector": [0.0] * 32, "mode": "vector"}, "zero"), ({"query": "a", "cursor": "x"}, "no cursor"),
     ({"query": "a", "generation": "tenants-*"}, "no generation"), ({"query": {"match_all": {}}}, "query")],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_and_says_why(service: Served, asked: dict[str, Any], said: str) -> None:
    with service.client() as client:
        answer = client.post("/v1/search", json=asked)
    assert answer.status_code in (400, 404), answer.text
    error = answer.json()["error"]
    assert said in error["message"]


def test_a_cursor_of_another_question_is_refused(service: Served) -> None:
    cursor = service.search(query="steam", k=3)["cursor"]
    with service.client() as client:
        answer = client.post("/v1/search", json={"query": "river", "k": 3, "cursor": cursor})
    assert answer.status_code == 400
    assert "another question" in answer.json()["error"]["message"]


def test_a_document_has_its_chunks_in_order(service: Served) -> None:
    hit = service.search(query="steam", k=1)["hits"][0]
    with service.client() as client:
        answer = client.get("/v1/documents", params={"document_id": hit["document_id"]})
        absent = client.get("/v1/documents", params={"document_id": "nobody"})
    chunks = answer.json()["chunks"]
    assert hit["id"] in {chunk["id"] for chunk in chunks}
    assert [chunk["ordinal"] for chunk in chunks] == sorted(chunk["ordinal"] for chunk in chunks)
    assert absent.status_code == 404


def test_what_is_there_is_told(service: Served) -> None:
    with service.client() as client:
        found = client.get("/v1/generations").json()
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json()["ready"] is True
        metrics = client.get("/metrics").text
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
    assert [each["name"] for each in found["generations"]] == [found["live"]]
    assert found["generations"][0]["age_s"] > 0
    assert found["filters"] == {
        "doc_type": "keyword",
        "tenant": "keyword",
        "document_id": "keyword",
        "partition": "keyword",
        "date": "date",
    }
    assert "backhaul_requests_total" in metrics


def test_embedding_is_the_services_own(service: Served) -> None:
    with service.client() as client:
        found = client.post("/v1/embed", json={"texts": ["river", "stone"]}).json()
    assert [len(vector) for vector in found["vectors"]] == [32, 32]
    vector = service.search(vector=found["vectors"][0], mode="vector", k=5)["hits"]
    words = service.search(query="river", mode="vector", k=5)["hits"]
    assert [hit["id"] for hit in vector] == [hit["id"] for hit in words]


def test_a_service_for_one_tenant_sees_its_rows_alone(tenants: Path) -> None:
    with served(tenants, "--tenant", "acme") as one, one.client() as client:
        assert one.search(query="steam", mode="vector", k=100)["hits"]
        named = client.post("/v1/search", json={"query": "steam", "filter": {"tenant": "blue"}})
        assert named.status_code in (400, 403)
        assert "tenant" not in client.get("/v1/generations").json()["filters"]
