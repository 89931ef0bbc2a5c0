"""Reaching a cluster: what is asked for, what is signed, what is said when it fails, and what is never said."""

from __future__ import annotations

import logging
import socket

import pytest

from pipelines.errors import SettingsError, TargetError
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_failures import Failure, classify, failure_of
from pipelines.targets.target import IndexSettings
from pipelines.verdict import Verdict
from tests.fixtures.faulty_opensearch import Answer, Request, faulty_opensearch
from tests.targets.opensearch_case import Case


def settings(url: str | None, **changes: object) -> IndexSettings:
    return IndexSettings.model_validate({"target": "opensearch", "url": url, **changes})


def test_a_cluster_that_is_down_at_the_start_is_named_with_what_to_check() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(TargetError, match=rf"{url}.*refused.*check that it runs, that index.url is right"):
            Case(url).target(deadline_s=3600)


@pytest.mark.parametrize("url", [None, "localhost:9200", "ftp://host", "https://"])
def test_an_address_that_is_none_is_refused(url: str | None) -> None:
    with pytest.raises(SettingsError, match=r"index\.url"):
        Cluster(settings(url))


def test_credentials_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="OPENSEARCH_PASSWORD") as raised:
        Cluster(settings("https://me:hunter2@host:9200"))
    assert "hunter2" not in str(raised.value)


def test_a_password_without_its_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSEARCH_PASSWORD", "hunter2")
    with pytest.raises(SettingsError, match="both"):
        Cluster(settings("http://127.0.0.1:1"))


def test_the_password_is_sent_and_never_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENSEARCH_USERNAME", "me")
    monkeypatch.setenv("OPENSEARCH_PASSWORD", "hunter2")
    sent = []

    def rule(request: Request) -> Answer:
        sent.append(request.headers.get("authorization", ""))
        return Answer(401, {"message": "wrong password"})

    with (
        caplog.at_level(logging.DEBUG),
        faulty_opensearch("http://127.0.0.1:1", rule) as url,
        pytest.raises(TargetError, match=r"401.*wrong password.*check OPENSEARCH_USERNAME") as raised,
    ):
        Cluster(settings(url)).call("GET", "/")
    assert sent == ["Basic bWU6aHVudGVyMg=="]
    for said in (caplog.text, str(raised.value)):
        assert "hunter2" not in said
        assert "bWU6aHVudGVyMg" not in said


@pytest.mark.parametrize("service", ["es", "aoss"])
def test_requests_are_signed_for_region_and_service(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    sent = []

    def rule(request: Request) -> Answer:
        sent.append(request.headers["Authorization"])
        return Answer(200, {})

    with faulty_opensearch("http://127.0.0.1:1", rule) as url:
        Cluster(settings(url, region="eu-west-1", service=service)).call("GET", "/")
    assert sent[0].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert f"/eu-west-1/{service}/aws4_request" in sent[0]


def test_an_answer_that_is_not_json_says_so() -> None:
    def rule(request: Request) -> Answer:
        return Answer(404, "no such page")

    with faulty_opensearch("http://127.0.0.1:1", rule) as url, pytest.raises(TargetError, match=r"404.*no such page"):
        Cluster(settings(url)).call("GET", "/")


def test_a_cluster_describes_itself(opensearch_url: str) -> None:
    described = Case(opensearch_url).target().describe()
    assert described["distribution"] == "opensearch"
    assert described["service"] == "plain"
    assert described["knn"][0].isdigit()
    assert described["url"] == opensearch_url


@pytest.mark.parametrize(
    ("status", "kind", "verdict"),
    [
        (429, "rejected_execution_exception", Verdict.BACK_OFF),
        (429, "circuit_breaking_exception", Verdict.SHRINK),
        (429, "cluster_block_exception", Verdict.STOP),
        (403, "cluster_block_exception", Verdict.STOP),
        (413, "http_413", Verdict.SHRINK),
        (400, "mapper_parsing_exception", Verdict.REJECT),
        (400, "strict_dynamic_mapping_exception", Verdict.REJECT),
        (400, "action_request_validation_exception", Verdict.REJECT),
        (400, "index_closed_exception", Verdict.STOP),
        (401, "http_401", Verdict.STOP),
        (403, "security_exception", Verdict.STOP),
        (404, "index_not_found_exception", Verdict.STOP),
        (429, "http_429", Verdict.BACK_OFF),
        (500, "node_not_connected_exception", Verdict.BACK_OFF),
        (503, "cluster_manager_not_discovered_exception", Verdict.BACK_OFF),
        (504, "http_504", Verdict.BACK_OFF),
        (None, "no_connection", Verdict.BACK_OFF),
        (None, "timeout", Verdict.SHRINK),
        (None, "certificate", Verdict.STOP),
    ],
)
def test_a_failure_is_classified_by_its_type_before_its_status(status: int | None, kind: str, verdict: Verdict) -> None:
    assert classify(Failure(status, kind, "")) is verdict


def test_a_long_reason_keeps_both_ends() -> None:
    failure = failure_of(400, {"type": "t", "reason": "begin " + "x" * 2000, "caused_by": {"reason": "the end"}})
    assert failure.reason.startswith("begin x")
    assert failure.reason.endswith("x (the end)")
    assert len(failure.reason) < 600
