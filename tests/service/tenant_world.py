"""An index whose rows can be told apart by tenant wherever they turn up, and the real app over it, in this process."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import yaml

from jobs.service.app import make_app
from jobs.service.audit import Audit
from jobs.service.auth import Gatekeeper, open_gatekeeper
from jobs.service.body import BodyLimit
from jobs.service.front import Front
from jobs.service.service import Service
from jobs.session import Session
from jobs.settings import load_settings
from pipelines.embed.backends import open_embedder
from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf
from tests.service.issuer import AUDIENCE, ISSUER, key_set, public_jwk

# Names that a careless comparison, pattern or quotation takes for one another.
TENANTS = ("acme", "acme2", "Acme", "acme' OR '1'='1", "acme%")
WORDS = ("wagon", "axle", "steam", "river", "stone", "cloud", "field", "night")
_CANARY = re.compile(rb"canary([0-9a-f]{16})")
_FIELDS = {
    "id": "id",
    "title": "title",
    "text": "text",
    "doc_type": "kind",
    "tenant": "team",
    "date": "day",
    "metadata": ["lang"],
}


@dataclass(frozen=True)
class World:
    """``canaries``: whose row a mark is of; no question ever holds one, so that one in an answer was read from a row."""

    folder: Path
    conf: Path
    generations: tuple[str, ...]  # of the corpus that is served, the live one last
    foreign: tuple[str, ...]  # of another corpus in the same index
    canaries: dict[bytes, str]

    def owners(self, data: bytes) -> set[str]:
        """Tenants whose rows are in these bytes."""
        return {self.canaries[mark] for mark in _CANARY.findall(data)}


def make_world(folder: Path, *, documents: int = 60, seed: int = 1) -> World:
    """``documents`` of each tenant, many of an id that others have as well."""
    chance, canaries = random.Random(seed), dict[bytes, str]()

    def mark(tenant: str) -> str:
        made = f"{chance.getrandbits(64):016x}"
        canaries[made.encode()] = tenant
        return f"canary{made}"

    rows = [
        {"id": f"d{number}" if number % 3 else f"{TENANTS.index(tenant)}-{number}", "title": f"{chance.choice(WORDS)} {mark(tenant)}",
         "text": f"{' '.join(chance.choices(WORDS, k=12))} of{TENANTS.index(tenant)} {mark(tenant)}", "kind": chance.choice(["faq", "guide"]),
         "team": tenant, "day": f"2024-{1 + number % 12:02d}-15", "lang": mark(tenant)}
        for number in range(documents) for tenant in TENANTS
    ]  # fmt: skip
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    (folder / "jwks.json").write_bytes(key_set(public_jwk("rsa", kid="a"), public_jwk("p256", kid="e")))
    conf, other = (_conf(folder, corpus) for corpus in ("tenants", "tenants2"))
    made = [_run(conf, "--set", "index.m=8"), _run(conf)]
    return World(folder, conf, tuple(made), (_run(other),), canaries)


def _conf(folder: Path, corpus: str) -> Path:
    auth = {"method": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(folder / "jwks.json"),
            "algorithms": ["RS256", "ES256"], "tenantless": True}  # fmt: skip
    serve = {"auth": auth, "audit": {"path": str(folder / "audit.jsonl")}, "limits": {"deadline_s": 30, "start": 64}}
    conf = write_conf(folder / f"{corpus}.yaml", root=f"file://{folder}/root", source=f"file://{folder}/source", corpus=corpus,
                      engine={"workers": 0}, serve=serve)  # fmt: skip
    described = yaml.safe_load(conf.read_text())
    described["source"]["fields"] = _FIELDS
    conf.write_text(yaml.safe_dump(described))
    return conf


def _run(conf: Path, *words: str) -> str:
    done = backhaul_here("run", conf, "--json", *words)
    assert done.code == 0, done.err
    name: str = done.json["generation"]
    return name


@asynccontextmanager
async def app_of(world: World, gatekeeper: Gatekeeper | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which runs in this event loop. ``gatekeeper``: instead of that of the settings."""
    settings = load_settings(world.conf)
    session = Session(settings, quiet=True)
    service = Service(
        session.target,
        session.log,
        open_embedder(settings.embed, settings.storage),
        settings.serve,
        settings.index.analyzer,
    )
    guard = gatekeeper or open_gatekeeper(settings.serve.auth, None)
    limits, connections = settings.serve.limits, settings.serve.connections
    app = BodyLimit(make_app(service), max_bytes=limits.max_body_bytes, within_s=connections.body_s)
    front = Front(app, guard, service.metrics, Audit(settings.serve.audit), tls=False)
    transport = httpx.ASGITransport(front, raise_app_exceptions=False)
    try:
        async with (
            service.lifespan(None),
            httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60) as client,
        ):
            while not service.readiness().ready:
                await service.searcher.follower.look()
            yield client
    finally:
        guard.close()
