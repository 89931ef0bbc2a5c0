"""Ways to get at another tenant's rows, drawn by chance: what an attacker with a good token of its own may send, and one without.

Knows the API, and nothing of how it is served.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.service.issuer import claims, part, private_key, token
from tests.service.tenant_world import TENANTS, WORDS, World

Headers = list[tuple[bytes, bytes]]
_MODES = ("lexical", "vector", "hybrid")


@dataclass(frozen=True)
class Attempt:
    """``sees``: whose rows may be in the answer; None: everybody's, an empty text: nobody's."""

    kind: str
    method: str
    path: str
    headers: Headers
    sees: str | None
    body: bytes | None = None


@dataclass
class Attacker:
    """Draws attempts, each by the seed and its number; what earlier answers told (cursors) is used in later ones, by other
    tenants."""

    world: World
    seed: int
    cursors: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)  # of whom, which question, cursor
    chance: random.Random = field(default_factory=random.Random)
    _tokens: dict[str | None, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tenant in (*TENANTS, None):
            self._tokens[tenant] = token(tenant=... if tenant is None else tenant, exp=int(time.time()) + 86_400)

    def attempt(self, number: int) -> Attempt:
        self.chance = random.Random(f"{self.seed}-{number}")
        kinds: list[tuple[Callable[[str], Attempt], int]] = [
            (self.plain, 6), (self.everything, 1), (self.tenant_filter, 4), (self.injection, 4), (self.document, 5), (self.cursor, 5),
            (self.bad_token, 5), (self.header_trick, 4), (self.generation, 3), (self.body_trick, 4), (self.path_trick, 3),
        ]  # fmt: skip
        (made,) = self.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        return made(self.chance.choice(TENANTS))

    def plain(self, tenant: str) -> Attempt:
        """Few questions, so that the same is asked by one tenant after another, and answered from what was kept."""
        return self._search("plain", tenant, self._question())

    def everything(self, tenant: str) -> Attempt:
        """Who sees every row asks the same, so that what was kept for it is there to be taken."""
        return self._search("everything", None, self._question())

    def tenant_filter(self, tenant: str) -> Attempt:
        other = self._other(tenant)
        name = self.chance.choice(
            [
                "tenant",
                "tenant",
                "tenant",
                "Tenant",
                "tenant ",
                "`tenant`",
                "metadata.tenant",
                "tenant\x00",
                "team",
                "_tenant",
            ]
        )
        value = self.chance.choice(
            [other, tenant, [other], [tenant, other], {"from": "", "to": "z"}, {"from": other}, {"to": other}]
        )
        return self._search("tenant filter", tenant, {**self._question(), "filter": {name: value}})

    def injection(self, tenant: str) -> Attempt:
        """Quotes, wildcards and operators in the values of filters that are allowed, and in the words."""
        other = self._other(tenant)
        hostile = self.chance.choice([
            f"faq' OR tenant = '{other}", f"faq') OR (tenant IN ('{other}", "faq' OR '1'='1", "' OR 1=1 --", "faq'/*", "*", "%", "faq\\",
            "faq\\' OR 1=1 --", '"faq" OR tenant:*', "faq' UNION SELECT * --", "faq''", "\u2019 OR 1=1", "'; DROP TABLE tenants; --",
        ])  # fmt: skip
        where = self.chance.choice(["doc_type", "document_id", "partition", "date", "query"])
        asked = self._question()
        if where == "query":
            return self._search("injection", tenant, {**asked, "query": f"{hostile} tenant:{other}"})
        return self._search(
            "injection", tenant, {**asked, "filter": {where: self.chance.choice([hostile, [hostile, "faq", "d1"]])}}
        )

    def document(self, tenant: str) -> Attempt:
        other, number = self._other(tenant), self.chance.randrange(60)
        name = self.chance.choice([f"d{number}", f"{TENANTS.index(other)}-{number - number % 3}", f"d{number}' OR '1'='1", f"d{number}%", "*",
                                   f"d{number}' OR tenant='{other}"])  # fmt: skip
        more = self.chance.choice(
            [{}, {}, {"generation": self._generation()}, {"tenant": other}, {"document_id": "d2"}]
        )
        query = "&".join(f"{key}={_quoted(value)}" for key, value in [("document_id", name), *more.items()])
        return Attempt("document", "GET", f"/v1/documents?{query}", self._as(tenant), tenant)

    def cursor(self, tenant: str) -> Attempt:
        """One's own, or another tenant's with its question; as it was, or with pieces exchanged."""
        if not self.cursors:
            return self.plain(tenant)
        _, question, cursor = self.chance.choice(self.cursors)
        if self.chance.random() < 0.6:
            parts = json.loads(base64.urlsafe_b64decode(cursor))
            place = self.chance.randrange(len(parts))
            parts[place] = self.chance.choice(
                [self._generation(), 0, 1, 3, 99, -1, 1e9, None, True, [], "", {"tenant": "acme2"}]
            )
            cursor = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()
        return self._search("cursor", tenant, {**question, "cursor": cursor})

    def bad_token(self, tenant: str) -> Attempt:
        path, body = self.chance.choice([("/v1/search", json.dumps(self._question()).encode()), ("/v1/documents?document_id=d1", None),
                                         ("/v1/generations", None)])  # fmt: skip
        header = f"Bearer {self._forged(tenant)}".encode("latin-1", "replace")
        return Attempt("bad token", "POST" if body else "GET", path, [(b"authorization", header)], "", body)

    def header_trick(self, tenant: str) -> Attempt:
        """A good token, and headers that somebody might believe more."""
        other = self._other(tenant)
        mine, theirs = (f"Bearer {self._tokens[each]}".encode() for each in (tenant, other))
        name, value = self.chance.choice([
            (b"x-tenant", other.encode()), (b"x-tenant-id", other.encode()), (b"x-forwarded-user", other.encode()), (b"x-remote-user", b"admin"),
            (b"x-original-url", b"/v1/generations"), (b"x-http-method-override", b"GET"), (b"forwarded", b"for=127.0.0.1;host=localhost"),
            (b"x-forwarded-for", b"127.0.0.1"), (b"host", b"tenants2"), (b"cookie", b"token=" + theirs[7:]), (b"x-authorization", theirs),
            (b"proxy-authorization", theirs), (b"x-api-key", theirs[7:]), (b"tenant", other.encode()), (b"x-original-authorization", theirs),
        ])  # fmt: skip
        headers, sees = [(b"authorization", mine), (name, value)], tenant
        if self.chance.random() < 0.4:
            headers = self.chance.choice([
                [(b"authorization", mine), (b"authorization", theirs)], [(b"authorization", theirs), (b"Authorization", mine)],
                [(b"authorization", mine + b", " + theirs)], [(b"authorization", mine + b"," + theirs[7:])], [(b"authorization", b"")],
                [(b"authorization", mine + b"\x00" + theirs)], [(b"authorization", b"Basic " + theirs[7:])], [(name, theirs)],
            ])  # fmt: skip
            sees = ""
        body = json.dumps(self._question()).encode()
        return Attempt(
            "header trick", "POST", "/v1/search", [*headers, (b"content-type", b"application/json")], sees, body
        )

    def generation(self, tenant: str) -> Attempt:
        return self._search("generation", tenant, {**self._question(), "generation": self._generation()})

    def body_trick(self, tenant: str) -> Attempt:
        """Fields that are none, said twice, of other types, or in other encodings."""
        other, asked = self._other(tenant), self._question()
        extra = self.chance.choice([
            {"tenant": other}, {"caller": {"tenant": other}}, {"filters": {"tenant": other}}, {"subject": other}, {"filter": None},
            {"filter": []}, {"filter": {"": other}}, {"filter": {"doc_type": None}}, {"filter": {"doc_type": {"tenant": other}}},
            {"filter": {"document_id": ["d1"] * 64}}, {"k": 100, "explain": True, "with_vectors": True}, {"k": "100"}, {"k": 1e3}, {"k": True},
            {"group_by_document": True, "k": 100}, {"exact": True, "mode": "vector"}, {"vector": [1.0] * 32, "mode": "vector"}, {"vector": [0.5]},
            {"query": {"match_all": {}}}, {"query": ""}, {"query": "x" * 5000}, {"fusion": {"method": "rrf", "tenant": other}}, {"mode": "sql"},
        ])  # fmt: skip
        text = json.dumps({**asked, **extra})
        data = self.chance.choice([
            text.encode(), text.encode(), f'{text[:-1]},"filter":{{"tenant":{json.dumps(other)}}}}}'.encode(), text.encode("utf-16"),
            b"\xef\xbb\xbf" + text.encode(), text.encode()[:-1], b"[" * 2000, b"[" + text.encode() + b"]", text.encode() + text.encode(), b"NaN", b"",
        ])  # fmt: skip
        kind = self.chance.choice(
            [b"application/json", b"application/json", b"text/plain", b"application/x-www-form-urlencoded"]
        )
        return Attempt(
            "body trick", "POST", "/v1/search", [*self._as(tenant)[:1], (b"content-type", kind)], tenant, data
        )

    def path_trick(self, tenant: str) -> Attempt:
        """Ways around the part of the paths that asks for a token; with none, nothing may be seen."""
        path = self.chance.choice([
            "//v1/search", "/V1/search", "/v1//search", "/v1/search/", "/page/../v1/generations", "/page/..%2fv1/search", "/./v1/search",
            "/v1%2fsearch", "/v1/search?access_token=" + self._tokens[tenant].split(".")[0], "/v1/documents?document_id=d1", "/v1/generations",
            "/v1/search;/page/", "/page/../../../tenants.yaml", "/page/%2e%2e/settings.py", "/page//etc/passwd", "/openapi.json", "/metrics", "/",
            "/readyz", "/v1", "/v1/", "/v1/search%00", "/v1/./search", "/v1/../v1/search", "/docs", "/healthz/../v1/generations",
        ])  # fmt: skip
        method = self.chance.choice(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
        body = json.dumps(self._question()).encode() if method in ("POST", "PUT", "PATCH") else None
        return Attempt("path trick", method, path, [(b"content-type", b"application/json")], "", body)

    def _search(self, kind: str, tenant: str | None, asked: dict[str, Any]) -> Attempt:
        return Attempt(kind, "POST", "/v1/search", self._as(tenant), tenant, json.dumps(asked).encode())

    def _as(self, tenant: str | None) -> Headers:
        return [(b"authorization", f"Bearer {self._tokens[tenant]}".encode()), (b"content-type", b"application/json")]

    def _question(self) -> dict[str, Any]:
        words = self.chance.choice(
            [self.chance.choice(WORDS), f"{self.chance.choice(WORDS)} of{self.chance.randrange(len(TENANTS))}"]
        )
        return {"query": words, "mode": self.chance.choice(_MODES), "k": self.chance.choice([3, 10])}

    def _other(self, tenant: str) -> str:
        return self.chance.choice([each for each in TENANTS if each != tenant])

    def _generation(self) -> str:
        own = self.world.generations
        return self.chance.choice([*own, *self.world.foreign, *self.world.foreign, "tenants", "tenants2", "*", f"{own[0]},{self.world.foreign[0]}",
                                   f"../root/{self.world.foreign[0]}", own[0].upper(), f"{own[0]}' OR '1'='1", "_all", own[0] + "\n"])  # fmt: skip

    def _forged(self, tenant: str) -> str:
        """No token of the issuer for this service, now."""
        good, other = self._tokens[tenant], self._tokens[self._other(tenant)]
        (head, body, signature), (_, body2, signature2) = good.split("."), other.split(".")
        public = private_key("rsa").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        confused = part({"alg": "HS256", "typ": "JWT", "kid": "a"}) + "." + part(claims(tenant=tenant))
        now = int(time.time())
        makes: list[Callable[[], str]] = [
            lambda: f"{head}.{body2}.{signature}", lambda: f"{head}.{body}.{signature2}", lambda: f"{head}.{body}.", lambda: f"{head}.{body}",
            lambda: f"{part({'alg': 'none', 'kid': 'a'})}.{body}.", lambda: f"{part({'alg': 'none'})}.{body}.{signature}",
            lambda: f"{confused}.{part(hmac.new(public, confused.encode(), hashlib.sha256).digest())}",
            lambda: token("ES256", headers={"kid": "a"}, tenant=tenant), lambda: token(headers={"kid": "e"}, tenant=tenant),
            lambda: token(number=1, tenant=tenant), lambda: token(headers={"kid": f"k{self.chance.random()}"}, tenant=tenant),
            lambda: token(headers={}, tenant=tenant), lambda: token(tenant=tenant, exp=now - 60), lambda: token(tenant=tenant, nbf=now + 600),
            lambda: token(tenant=tenant, aud="another"), lambda: token(tenant=tenant, iss="https://evil.example.com/"),
            lambda: token(tenant=tenant, exp=...), lambda: token(tenant=[tenant, self._other(tenant)]), lambda: token(tenant=""),
            lambda: token(tenant={"$ne": ""}), lambda: good[:-4], lambda: good + "=", lambda: good.swapcase(), lambda: "", lambda: "bh_" + "A" * 43,
            lambda: "A" * 9000, lambda: good + "\n", lambda: f"{good} {other}", lambda: "ä" * 20, lambda: "\x00", lambda: f"{part(b'[' * 3000)}.{body}.x",
        ]  # fmt: skip
        return self.chance.choice(makes)()


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
