"""An index that refuses everything ends the load within seconds, with what to do, and is left in peace; then the same
command ends it exactly."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.load import must_read_manifest
from tests.e2e.command import Outcome, backhaul, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.certificates import Authority
from tests.fixtures.faulty_opensearch import Act, Answer, Request, Reset, error_of, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import send

OBJECTS, DOCUMENTS = 12, 60
STOPS_WITHIN_S = 5.0
ODD_DATE = "2024-01-01T00:00:00+20:00"  # ISO 8601 to the reader; to OpenSearch no time zone is 20 hours ahead


@dataclass
class Trouble:
    """A rule: from the bulk number ``after`` on, ``begin`` has happened and ``act`` is what requests meet."""

    begin: Callable[[], None] = lambda: None
    act: Callable[[Request], Act | None] = lambda request: None
    after: int = 3
    bulks: int = 0
    began: float | None = None
    met: list[float] = field(default_factory=list)  # when each request came since

    def __call__(self, request: Request) -> Act | None:
        self.bulks += "/_bulk" in request.path
        if self.began is None and self.bulks >= self.after:
            self.begin()
            self.began = time.monotonic()
        if self.began is None:
            return None
        self.met.append(time.monotonic())
        return self.act(request)

    def lasted_s(self) -> float:
        assert self.began is not None
        return time.monotonic() - self.began


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halted")
    source = write_corpus(folder / "source", objects=OBJECTS, documents=DOCUMENTS)
    made = write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{source}",
                      corpus=f"halted{time.time_ns()}", partition={"target_tokens": 1_000, "max_objects": 2}, engine={"workers": 0},
                      index={"target": "opensearch", "url": "http://127.0.0.1:1", "replicas": 0})  # fmt: skip
    outcome = backhaul_here("embed", made)
    assert outcome.code == 0, outcome.err
    return made


@pytest.fixture
def index(conf: Path, opensearch_url: str) -> Iterator[str]:
    """The name of the generation, which does not exist yet."""
    session = Session(load_settings(conf, [f"index.url={opensearch_url}"]), quiet=True)
    yield session.generation_name(session.plan().run_id)
    delete_indices(opensearch_url, session.settings.corpus)


def load_through(conf: Path, node: str, trouble: Trouble, *more: str, tls: ssl.SSLContext | None = None,
                 run: Callable[..., Outcome] = backhaul_here) -> Outcome:  # fmt: skip
    with faulty_opensearch(node, trouble, tls=tls) as url:
        words = [word for each in (f"index.url={url}", *more) for word in ("--set", each)]
        outcome = run("load", conf, *words)
        seconds = trouble.lasted_s()
    assert outcome.code == 1, outcome.err
    assert seconds <= STOPS_WITHIN_S
    return outcome


def resume(conf: Path, node: str) -> None:
    """The same command without the trouble: every row is there, and no partition was at fault."""
    failures = backhaul_here("failures", conf, "--json", "--set", f"index.url={node}")
    assert failures.json["partitions"] == []
    outcome = backhaul_here("load", conf, "--json", "--set", f"index.url={node}")
    assert outcome.code == 0, outcome.err
    session = Session(load_settings(conf, [f"index.url={node}"]), quiet=True)
    manifest = must_read_manifest(session.store, session.plan().run_id)
    counts = session.target.partitions(outcome.json["generation"])
    assert counts == {entry.partition: entry.rows for entry in manifest.entries}
    assert sum(counts.values()) == OBJECTS * DOCUMENTS


def test_a_flood_stage_block(conf: Path, index: str, opensearch_url: str) -> None:
    def block(blocked: bool | None) -> Callable[[], None]:
        return lambda: send(
            opensearch_url, "PUT", f"/{index}/_settings", {"index.blocks.read_only_allow_delete": blocked}
        )

    trouble = Trouble(begin=block(True))
    outcome = load_through(conf, opensearch_url, trouble)
    assert "cluster_block_exception" in outcome.err
    assert "free disk space, or lift the block" in outcome.err
    assert f"Then run `backhaul load {conf}` to resume" in outcome.err
    assert len(trouble.met) <= 4
    block(None)()
    resume(conf, opensearch_url)


@pytest.mark.parametrize("run", [backhaul_here, backhaul], ids=["in one process", "with two workers"])
def test_denied_access(conf: Path, index: str, opensearch_url: str, run: Callable[..., Outcome]) -> None:
    trouble = Trouble(act=lambda request: Answer(401, error_of("security_exception", "Unauthorized")))
    outcome = load_through(conf, opensearch_url, trouble, f"engine.workers={2 if run is backhaul else 0}", run=run)
    assert "security_exception" in outcome.err
    assert "check OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD" in outcome.err
    assert len(trouble.met) <= 12  # what was under way, of two workers
    resume(conf, opensearch_url)


def test_a_certificate_that_expires_meanwhile(conf: Path, index: str, opensearch_url: str, tmp_path: Path) -> None:
    authority, context = Authority(tmp_path), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.certify(context)
    trouble = Trouble(begin=lambda: authority.certify(context, expired=True), act=lambda request: Reset())
    outcome = load_through(conf, opensearch_url, trouble, f"index.ca_certs={authority.file}", tls=context)
    assert "certificate has expired" in outcome.err
    assert len(trouble.met) <= 3
    resume(conf, opensearch_url)


def test_documents_that_the_mapping_refuses_one_and_all(
    conf: Path, index: str, opensearch_url: str, tmp_path: Path
) -> None:
    value = yaml.safe_load(conf.read_text())
    for path in (source := tmp_path / "source", tmp_path / "root"):
        path.mkdir()
    write_corpus(source, objects=OBJECTS, documents=DOCUMENTS)
    for path in source.rglob("*.jsonl"):
        rows = [{**orjson.loads(line), "date": ODD_DATE} for line in path.read_bytes().splitlines()]
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    value["root"], value["source"]["uri"] = f"file://{tmp_path}/root", f"file://{source}"
    value["source"]["fields"]["date"] = "date"
    other = tmp_path / "run.yaml"
    other.write_text(yaml.safe_dump(value))
    assert backhaul_here("embed", other).code == 0
    trouble = Trouble(after=1)
    outcome = load_through(other, opensearch_url, trouble)
    assert "refused every one of 60 rows" in outcome.err
    assert f"failed to parse date field [{ODD_DATE}]" in outcome.err
    assert "its mapping and the documents do not agree" in outcome.err
    assert len(trouble.met) <= 6


class TestBreaker:
    """It may let go by itself, so the load pauses, hardly asks, and says so."""

    LIMIT = "network.breaker.inflight_requests.limit"  # of the bytes of all requests under way

    @pytest.fixture
    def tripped(self, opensearch_url: str) -> Iterator[Callable[[str | None], None]]:
        def limit(value: str | None) -> None:
            send(opensearch_url, "PUT", "/_cluster/settings", {"transient": {self.LIMIT: value}})

        yield limit
        limit(None)

    def test_a_load_goes_on_when_it_lets_go(self, conf: Path, index: str, opensearch_url: str, caplog: Any,
                                            tripped: Callable[[str | None], None]) -> None:  # fmt: skip
        trouble = Trouble(begin=lambda: tripped("1kb"))

        def rule(request: Request) -> Act | None:
            act = trouble(request)
            if trouble.began and trouble.lasted_s() > 8:
                tripped(None)
            return act

        with caplog.at_level(logging.WARNING), faulty_opensearch(opensearch_url, rule) as url:
            outcome = backhaul_here("load", conf, "--set", f"index.url={url}")
        assert outcome.code == 0, outcome.err
        (said,) = [record for record in caplog.records if "circuit_breaking_exception" in record.getMessage()]
        assert "its heap is full" in said.getMessage()
        assert trouble.began is not None
        bulks = [at - trouble.began for at in trouble.met]
        assert sum(5 <= at < 8 for at in bulks) <= 9
        resume(conf, opensearch_url)

    def test_a_load_ends_at_the_deadline_when_it_does_not(self, conf: Path, index: str, opensearch_url: str,
                                                          tripped: Callable[[str | None], None]) -> None:  # fmt: skip
        trouble = Trouble(begin=lambda: tripped("1kb"))
        outcome = load_through(conf, opensearch_url, trouble, "index.deadline_s=3")
        assert "circuit_breaking_exception" in outcome.err
        assert "smaller index.max_bulk_bytes" in outcome.err
        tripped(None)
        resume(conf, opensearch_url)
