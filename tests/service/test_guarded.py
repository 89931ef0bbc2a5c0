"""The service as it runs, with authentication: keys and tokens over real sockets, headers of its answers, audit lines."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from jobs.service.api_keys import new_key
from jobs.service.key_file import append_key
from tests.e2e.command import backhaul_here
from tests.fixtures.http_stand_in import Reply, serving
from tests.service.issuer import AUDIENCE, ISSUER, key_set, public_jwk, token
from tests.service.served import Served, served

QUESTION = {"query": "steam wagon", "k": 50}


@dataclass(frozen=True)
class Guarded:
    service: Served
    keys: Path
    audit: Path

    def add(self, tenant: str) -> str:
        secret, kept = new_key(tenant=tenant, subject="crawler")
        append_key(self.keys, kept)
        return secret

    def lines_of(self, answers: Sequence[httpx.Response]) -> list[dict[str, object]]:
        """Audit lines by answer. They are written once the answer has left, so a moment after it is here."""
        wanted, until = [answer.headers["x-request-id"] for answer in answers], time.monotonic() + 20
        while True:
            text = self.audit.read_text()
            lines = {line["id"]: line for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines())}
            if lines.keys() >= set(wanted) or time.monotonic() > until:
                return [lines[id_] for id_ in wanted]
            time.sleep(0.02)


def conf_of(indexed: Path, folder: Path, **auth: object) -> Path:
    """The run description of a corpus that is indexed, with a service that asks for tokens."""
    described = yaml.safe_load(indexed.read_text())
    described["serve"] = {"auth": auth, "audit": {"path": str(folder / "audit.jsonl")}, "limits": {"deadline_s": 30},
                          "deregistration_s": 0}  # fmt: skip
    conf = folder / "guarded.yaml"
    conf.write_text(yaml.safe_dump(described))
    return conf


@pytest.fixture(scope="module")
def guarded(tenants: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys.jsonl"
    append_key(keys, new_key(tenant="acme", subject="first")[1])
    with served(conf_of(tenants, folder, method="api_keys", api_keys=str(keys))) as service:
        yield Guarded(service, keys, folder / "audit.jsonl")


def raw(service: Served, head: str, body: bytes = b"") -> tuple[int, str]:
    """Status and text of an answer to bytes as they are, with nothing that a client would mend."""
    where = urlsplit(service.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + body)
        found = b""
        while block := connection.recv(65_536):
            found += block
    return int(found.split(b" ", 2)[1]), found.decode("latin-1")


def ask(guarded: Guarded, *lines: str) -> tuple[int, str]:
    body = json.dumps(QUESTION).encode()
    head = "\n".join(["POST /v1/search HTTP/1.1", "Host: here", "Connection: close", "Content-Type: application/json",
                      f"Content-Length: {len(body)}", *lines, "", ""])  # fmt: skip
    return raw(guarded.service, head, body)


def test_a_key_made_while_the_service_runs_sees_its_tenant_and_a_withdrawn_one_nothing(guarded: Guarded) -> None:
    secret = guarded.add("blue")
    hits = guarded.service.search(token=secret, **QUESTION)["hits"]
    with guarded.service.client(secret) as client:
        told = client.get("/v1/generations").json()
        assert told["tenant"] == "blue"
        assert [each["rows"] for each in told["generations"]] == [None]  # of all tenants
        theirs = {hit["id"] for hit in hits}
        other = {hit["id"] for hit in guarded.service.search(token=guarded.add("acme"), **QUESTION)["hits"]}
        assert theirs
        assert not theirs & other
        kept = [line for line in guarded.keys.read_text().splitlines(keepends=True) if '"blue"' not in line]
        guarded.keys.write_text("".join(kept))
        answer = client.post("/v1/search", json=QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path", ["/v1/search", "/v1/embed", "/v1/generations", "/v1/documents?document_id=d1", "/v1/nowhere"]
)
def test_nothing_below_v1_answers_without_a_token(guarded: Guarded, path: str) -> None:
    with guarded.service.client() as client:
        for answer in (client.get(path), client.post(path, json=QUESTION), client.options(path)):
            assert answer.status_code == 401
            assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    "lines",
    [["Authorization: Bearer {acme}", "Authorization: Bearer {blue}"], ["authorization: Bearer {acme}", "AUTHORIZATION: Bearer {acme}"],
     ["Authorization: Bearer {acme}, Bearer {blue}"], ["Authorization: Basic {acme}"], ["Authorization:"], ["X-Api-Key: {acme}"],
     ["Authorization: Bearer {acme}\n , Bearer {blue}"], ["Authorization : Bearer {acme}"], ["Cookie: token={acme}"]],
)  # fmt: skip
def test_a_token_is_sent_once_and_in_its_header(guarded: Guarded, lines: list[str]) -> None:
    names = {"acme": guarded.add("acme"), "blue": guarded.add("blue")}
    status, text = ask(guarded, *(line.format(**names) for line in lines))
    assert status in (400, 401), text
    assert '"hits"' not in text
    assert not any(secret in text for secret in names.values())


def test_other_headers_say_nothing_of_the_tenant(guarded: Guarded) -> None:
    secret = guarded.add("acme")
    plain = ask(guarded, f"Authorization: Bearer {secret}")
    tricked = ask(
        guarded,
        f"Authorization: Bearer {secret}",
        "X-Tenant: blue",
        "X-Forwarded-User: blue",
        "X-Forwarded-For: 127.0.0.1",
    )
    ids = [re.findall(r'"document_id":"[^"]*","score', text) for _, text in (plain, tricked)]
    assert plain[0] == tricked[0] == 200
    assert ids[0] == ids[1] != []


@pytest.mark.parametrize(
    "path",
    ["//v1/generations", "/page/../v1/generations", "/v1%2fgenerations", "/V1/generations", "/%76%31/generations"],
)
def test_no_other_spelling_of_a_path_leads_past_the_door(guarded: Guarded, path: str) -> None:
    status, text = raw(guarded.service, f"GET {path} HTTP/1.1\nHost: here\nConnection: close\n\n")
    assert status in (401, 404), text
    assert "run_id" not in text


def test_every_answer_has_the_security_headers_and_an_id_and_names_no_server(guarded: Guarded) -> None:
    with guarded.service.client(guarded.add("acme")) as client:
        answers = [client.get("/"), client.get("/healthz"), client.get("/nowhere"), client.post("/v1/search", json=QUESTION),
                   client.post("/v1/search", json={}), guarded.service.get("/v1/search"), client.get("/metrics")]  # fmt: skip
    for answer in answers:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers.get_list("cache-control") == ["no-store" if "/v1/" in str(answer.url) else "no-cache"]
        assert "server" not in answer.headers
        assert "strict-transport-security" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_each_request_has_its_line_and_no_line_has_a_secret(guarded: Guarded) -> None:
    secret = guarded.add("cobalt")
    with guarded.service.client(secret) as client:
        good = client.post("/v1/search", json=QUESTION, headers={"x-request-id": "mine"})
        again = client.post("/v1/search", json=QUESTION)
        refused = client.post("/v1/search", json={**QUESTION, "filter": {"tenant": "acme"}})
    forged = httpx.get(f"{guarded.service.url}/v1/generations", headers={"authorization": "Bearer forged"})
    first, second, third, fourth = guarded.lines_of([good, again, refused, forged])
    assert (first["subject"], first["tenant"], first["status"], first["k"], first["cached"]) == (
        "crawler",
        "cobalt",
        200,
        50,
        False,
    )
    assert first["hits"] == len(good.json()["hits"]) > 0
    assert first["generation"] == good.json()["generation"]
    assert second["cached"] is True
    assert (refused.status_code, third["status"], third["refused"]) == (403, 403, "tenant filter")
    assert (fourth["status"], fourth["refused"], fourth["subject"]) == (401, "malformed", None)
    text = guarded.audit.read_text()
    assert secret not in text
    assert not any(said in text for said in ("mine", "forged", "steam"))
    assert "foreign_hits_total 0.0" in guarded.service.get("/metrics").text


def test_tokens_of_an_issuer_whose_keys_change_while_the_service_runs(tenants: Path, tmp_path: Path) -> None:
    published = [public_jwk("rsa", kid="a")]
    with serving(lambda request: Reply(body=key_set(*published))) as issuer:
        conf = conf_of(
            tenants, tmp_path, method="jwt", issuer=ISSUER, audience=AUDIENCE, jwks_url=f"{issuer}/keys", jwks_ttl_s=1
        )
        with served(conf) as service, service.client() as client:

            def status(text: str) -> int:
                return client.post("/v1/search", json=QUESTION, headers={"authorization": f"Bearer {text}"}).status_code

            old, new = token(headers={"kid": "a"}), token(number=1, headers={"kid": "b"})
            assert (status(old), status(new)) == (200, 401)
            published[:] = [public_jwk("rsa", 1, kid="b")]
            while status(new) != 200 or status(old) != 401:  # the test's own time is the bound
                time.sleep(0.05)


def test_a_service_without_keys_does_not_start(tenants: Path, tmp_path: Path) -> None:
    conf = conf_of(tenants, tmp_path, method="api_keys", api_keys=str(tmp_path / "nowhere.jsonl"))
    done = backhaul_here("serve", conf, "--port", "0")
    assert done.code == 2
    assert "nowhere.jsonl cannot be read" in done.err
