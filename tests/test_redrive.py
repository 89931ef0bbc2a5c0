"""Dead letters are sent again after their cause was mended; what is refused still stays named, and nothing else is
touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.verbs.failures import run_failures
from jobs.verbs.load import load_task
from jobs.verbs.redrive import redrive_run
from jobs.verbs.retry import retry_run
from jobs.verbs.verify import is_proved, must_pass, verify_run
from pipelines.errors import GateRefused, Interrupted
from pipelines.load import loads_finished
from pipelines.redrive import RedriveTask, RedriveWork
from pipelines.targets.target import Generation
from tests.fixtures.faulty_opensearch import Answer, Request, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import send
from tests.test_load import Run

pytestmark = pytest.mark.opensearch
REFUSED = {"d0-1": "of the first kind", "d0-20": "of the first kind", "d2-29": "of the second kind"}


class Refusing:
    """A run whose index has a pipeline that refuses some documents until they are ``mended``."""

    def __init__(self, folder: Path, url: str, corpus: str) -> None:
        self.url, self.corpus = url, corpus
        self.run = Run(folder, corpus=corpus, index={"target": "opensearch", "url": url, "replicas": 0})
        self.generation: Generation = self.run.create()
        self.mended()
        send(url, "PUT", f"/{self.generation.name}/_settings", {"index.final_pipeline": corpus})

    def mended(self, *documents: str) -> None:
        fails = [{"fail": {"if": f"ctx.document_id == '{each}'", "message": f"document {why}"}}
                 for each, why in REFUSED.items() if each not in documents]  # fmt: skip
        send(self.url, "PUT", f"/_ingest/pipeline/{self.corpus}", {"processors": fails})

    def load(self) -> None:
        with pytest.raises(GateRefused, match=r"refused 3 rows for good .*`backhaul retry CONF` sends them again"):
            self.run.load()

    def retry(self, **which: Any) -> dict[str, Any]:
        return retry_run(self.run.session, self.run.plan, **{"cause": None, "partition": None, **which})

    def left(self) -> set[str]:
        """The documents that are refused still, as ``failures`` says."""
        groups = run_failures(self.run.session, self.run.plan)["rejects"]
        assert all("document of the" in example["reason"] for group in groups for example in group["examples"])
        return {example["document_id"] for group in groups for example in group["examples"]}

    def rows(self) -> int:
        return self.run.session.target.count(self.generation.name)


@pytest.fixture
def refusing(tmp_path: Path, opensearch_url: str) -> Iterator[Refusing]:
    made = Refusing(tmp_path, opensearch_url, f"redrive{tmp_path.name.lower()[-20:]}")
    yield made
    delete_indices(opensearch_url, made.corpus)
    send(opensearch_url, "DELETE", f"/_ingest/pipeline/{made.corpus}")


def test_when_all_are_mended_nothing_is_left_and_the_generation_can_be_proved(refusing: Refusing) -> None:
    refusing.load()
    assert (refusing.rows(), refusing.left()) == (87, set(REFUSED))
    refusing.mended(*REFUSED)
    letters = refusing.retry()["dead_letters"]
    assert (letters["tried"], letters["taken"], letters["left"]) == (3, 3, {})
    assert (refusing.rows(), refusing.left()) == (90, set())
    run = refusing.run
    must_pass(verify_run(run.session, run.plan, run.manifest, refusing.generation))
    assert refusing.retry()["dead_letters"] is None


def test_what_is_refused_again_stays_named_and_over_the_limit(refusing: Refusing) -> None:
    refusing.load()
    refusing.mended("d0-1")
    with pytest.raises(GateRefused, match="refused 2 rows for good"):
        refusing.retry()
    assert (refusing.rows(), refusing.left()) == (88, {"d0-20", "d2-29"})
    verification = verify_run(refusing.run.session, refusing.run.plan, refusing.run.manifest, refusing.generation)
    assert [gate.name for gate in verification.gates if not gate.passed] == ["dead letters"]
    refusing.mended(*REFUSED)
    assert refusing.retry()["dead_letters"]["taken"] == 2
    assert (refusing.rows(), refusing.left()) == (90, set())


def test_a_partition_or_a_cause_can_be_chosen(refusing: Refusing) -> None:
    refusing.load()
    refusing.mended(*REFUSED)
    first, _, last = sorted(refusing.run.plan.partitions, key=lambda each: each.number)
    with pytest.raises(GateRefused, match="refused 1 rows"):
        refusing.retry(partition=first.id)
    assert refusing.left() == {"d2-29"}
    assert refusing.retry(cause="another")["dead_letters"] is None
    (cause,) = {group["cause"] for group in run_failures(refusing.run.session, refusing.run.plan)["rejects"]}
    assert refusing.retry(cause=cause)["dead_letters"]["taken"] == 1
    assert refusing.rows() == 90
    assert last.id != first.id


def test_a_proof_from_before_does_not_count_any_more(refusing: Refusing) -> None:
    run = refusing.run
    refusing.load()
    verify_run(run.session, run.plan, run.manifest, refusing.generation)
    before = loads_finished(run.session.store, run.receipts(refusing.generation))
    refusing.mended(*REFUSED)
    refusing.retry()
    assert loads_finished(run.session.store, run.receipts(refusing.generation)) > before
    assert not is_proved(run.session, refusing.generation)


def test_one_that_was_stopped_between_parts_goes_on(refusing: Refusing) -> None:
    refusing.load()
    refusing.mended(*REFUSED)
    work = RedriveWork(RedriveTask(load=load_task(refusing.run.session, refusing.generation)))
    stops = iter([False, True])
    work.stopping = lambda: next(stops)
    first = next(each for each in refusing.run.plan.partitions if each.number == 0)
    with pytest.raises(Interrupted):
        work(first)
    assert refusing.left() == set(REFUSED)
    assert refusing.retry()["dead_letters"]["taken"] == 3
    assert (refusing.rows(), refusing.left()) == (90, set())


def test_a_document_that_somebody_on_the_way_would_not_let_through(
    tmp_path: Path, opensearch_url: str, with_corpus: Callable[[], str]
) -> None:
    def narrow(request: Request) -> Answer | None:
        return Answer(413) if "/_bulk" in request.path and b'"d1-7"' in request.body else None

    corpus = with_corpus()
    with faulty_opensearch(opensearch_url, narrow) as url, pytest.raises(GateRefused, match="http_413 1"):
        Run(tmp_path, corpus=corpus, index={"target": "opensearch", "url": url, "replicas": 0}).load()
    run = Run(tmp_path, corpus=corpus, index={"target": "opensearch", "url": opensearch_url, "replicas": 0})
    result = redrive_run(run.session, run.plan, cause="http_413", partition=None)
    assert result is not None
    assert (result["taken"], result["left"], run.create().rows) == (1, {}, 90)


@pytest.fixture
def with_corpus(tmp_path: Path, opensearch_url: str) -> Iterator[Callable[[], str]]:
    corpus = f"narrow{tmp_path.name.lower()[-12:]}"
    yield lambda: corpus
    delete_indices(opensearch_url, corpus)
