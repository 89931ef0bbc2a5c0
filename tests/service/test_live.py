"""The service follows releases and rollbacks, and refuses to embed for another Space."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command import backhaul_here
from tests.service.served import Served, index, served, tenants_conf


def until(true: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "nothing changed"
        time.sleep(0.05)


def live(service: Served) -> str | None:
    found: str | None = service.get("/readyz").json()["generation"]
    return found


def test_a_release_and_a_rollback_are_followed_within_seconds_and_no_cursor_mixes_them(tmp_path: Path) -> None:
    conf = tenants_conf(tmp_path)
    index(conf)
    with served(conf) as service:
        first = service.search(query="steam", k=5)
        assert backhaul_here("run", conf, "--set", "index.m=8").code == 0
        until(lambda: live(service) != first["generation"])
        second = service.search(query="steam", k=5)
        assert second["generation"] == live(service)
        rest = service.search(query="steam", k=5, cursor=first["cursor"])
        assert rest["generation"] == first["generation"]
        assert backhaul_here("rollback", conf, "--set", "index.m=8", "--yes").code == 0
        until(lambda: live(service) == first["generation"])
        assert service.search(query="steam", k=5)["generation"] == first["generation"]


def test_a_cursor_of_a_dropped_generation_is_gone(tmp_path: Path) -> None:
    conf = tenants_conf(tmp_path)
    index(conf)
    with served(conf) as service:
        first = service.search(query="steam", k=5)
        assert backhaul_here("run", conf, "--set", "index.m=8").code == 0
        until(lambda: live(service) != first["generation"])
        assert backhaul_here("drop", conf, "--generation", first["generation"], "--yes").code == 0
        with service.client() as client:
            answer = client.post("/v1/search", json={"query": "steam", "k": 5, "cursor": first["cursor"]})
        assert answer.status_code == 410, answer.text
        assert "ask again without cursor" in answer.json()["error"]["message"]


def test_another_space_is_refused_field_by_field_and_words_still_found(tmp_path: Path) -> None:
    conf = tenants_conf(tmp_path)
    index(conf)
    with served(conf, "--set", "embed.dimensions=16", ready=False) as service:
        until(lambda: service.get("/readyz").json()["generation"] is not None)
        ready = service.get("/readyz")
        assert ready.status_code == 503
        assert "dimensions: 16 here, 32 there" in ready.json()["reasons"][0]
        with service.client() as client:
            refused = client.post("/v1/search", json={"query": "steam"})
            words = client.post("/v1/search", json={"query": "steam", "mode": "lexical"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "space_mismatch"
        assert any("dimensions" in line for line in refused.json()["error"]["details"])
        assert words.status_code == 200


def test_without_a_live_generation_it_says_what_makes_one(tmp_path: Path) -> None:
    conf = tenants_conf(tmp_path)
    with served(conf, ready=False) as service:
        with service.client() as client:
            answer = client.post("/v1/search", json={"query": "steam"})
            assert answer.status_code == 503
            assert "`backhaul run CONF` makes one" in answer.json()["error"]["message"]
            assert answer.headers["retry-after"]
        index(conf)
        until(lambda: live(service) is not None)
        assert service.search(query="steam")["hits"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # refused before anything is bound
def test_others_are_let_in_with_authentication_alone(tenants: Path, host: str) -> None:
    done = backhaul_here("serve", tenants, "--host", host)
    assert done.code == 2
    assert "serve.auth.method" in done.err


def test_an_address_in_use_is_named(tenants: Path, service: Served) -> None:
    port = service.url.rpartition(":")[2]
    done = backhaul_here("serve", tenants, "--port", port)
    assert done.code == 2
    assert f"127.0.0.1:{port}" in done.err
    assert "--port" in done.err


def test_a_log_of_questions_warms_a_service(tmp_path: Path, tenants: Path) -> None:
    log = tmp_path / "queries.jsonl"
    log.write_text('{"query": "steam", "k": 3}\n{"status": 200}\n{"query": "river"}\n{"query": "steam", "k": 3}\n')
    with served(tenants) as service:
        done = backhaul_here("warm", tenants, "--queries", log, "--url", service.url, "--json")
        assert done.code == 0, done.err
        assert (done.json["asked"], done.json["refused"]) == (2, 0)
        before = service.get("/metrics").text
        service.search(query="steam", k=3)
        after = service.get("/metrics").text
    ratio = 'backhaul_cache_hit_ratio{cache="answers"}'
    assert [line for line in before.splitlines() if line.startswith(ratio)] == [f"{ratio} 0.0"]
    assert [line for line in after.splitlines() if line.startswith(ratio)] != [f"{ratio} 0.0"]


def test_a_log_that_holds_no_questions_is_named_with_its_line(tmp_path: Path, tenants: Path) -> None:
    log = tmp_path / "queries.jsonl"
    log.write_text('{"query": "steam"}\nsteam\n')
    done = backhaul_here("warm", tenants, "--queries", log)
    assert done.code == 2
    assert f"{log}:2 is no JSON" in done.err
