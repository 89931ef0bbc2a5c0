"""A load that was killed leaves its generation set for loading: the next command that touches it finishes that."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.verbs.generations import list_generations
from jobs.verbs.release import release_generation, rollback_corpus
from jobs.verbs.status import run_status
from jobs.verbs.verify import is_proved, must_pass, verify_run
from pipelines.errors import GateRefused
from pipelines.load import loads_finished
from pipelines.release import release, rollback
from pipelines.targets.target import Generation
from tests.fixtures.opensearch import delete_indices
from tests.test_load import Run

pytestmark = pytest.mark.opensearch


@pytest.fixture
def make(tmp_path: Path, opensearch_url: str) -> Iterator[Callable[..., Run]]:
    corpus = f"c{uuid.uuid4().hex[:10]}"
    yield lambda **index: Run(tmp_path, corpus=corpus,
                              index={"target": "opensearch", "url": opensearch_url, "replicas": 0, **index})  # fmt: skip
    delete_indices(opensearch_url, corpus)


def proved(run: Run) -> Generation:
    generation = run.load()
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))
    return generation


def begun_and_killed(run: Run, generation: Generation) -> Generation:
    """As a process that had begun to load a partition again when it was killed."""
    run.session.target.begin_load(generation.name)
    found = run.session.target.find(generation.name)
    assert found is not None
    assert found.loading
    return found


def is_restored(run: Run, generation: Generation) -> bool:
    url = f"{run.settings.index.url}/{generation.name}/_settings"
    with urllib.request.urlopen(url, timeout=30) as answer:
        settings = json.load(answer)[generation.name]["settings"]["index"]
    return "refresh_interval" not in settings and settings["number_of_replicas"] == str(run.settings.index.replicas)


def test_status_and_list_say_so(make: Callable[..., Run]) -> None:
    run = make()
    generation = proved(run)
    assert run_status(run.session, run.plan)["stages"]["load"]["finished"]
    begun_and_killed(run, generation)
    assert not run_status(run.session, run.plan)["stages"]["load"]["finished"]
    assert [each["loading"] for each in list_generations(run.session)["generations"]] == [True]


def test_the_next_load_finishes_it(make: Callable[..., Run]) -> None:
    run = make()
    generation = begun_and_killed(run, proved(run))
    assert not run.load().loading
    assert is_restored(run, generation)
    assert not is_proved(run.session, generation)  # who knows what was written in between


def test_verify_finishes_it_and_proves_it(make: Callable[..., Run]) -> None:
    run = make()
    generation = begun_and_killed(run, proved(run))
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))
    assert is_restored(run, generation)
    assert is_proved(run.session, generation)


def test_verify_finishes_a_first_load_of_which_only_the_end_was_missing(make: Callable[..., Run]) -> None:
    run = make()
    generation = run.create()
    for partition in run.plan.partitions:
        run.work(generation)(partition)
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))
    assert is_restored(run, generation)


def test_verify_leaves_one_of_which_rows_are_missing_to_the_load(make: Callable[..., Run]) -> None:
    run = make()
    generation = run.create()
    run.work(generation)(run.plan.partitions[0])
    with pytest.raises(GateRefused, match="never loaded to the end; run `backhaul load CONF` first"):
        verify_run(run.session, run.plan, run.manifest, generation)
    assert not is_restored(run, generation)


def test_release_finishes_it_and_asks_for_another_proof(make: Callable[..., Run]) -> None:
    run = make()
    generation = begun_and_killed(run, proved(run))
    with pytest.raises(GateRefused, match="loaded again after its verification; run `backhaul verify CONF`"):
        release_generation(run.session, generation, force=False)
    assert is_restored(run, generation)
    assert run.session.target.live(run.settings.corpus) is None


def test_rollback_finishes_the_one_that_it_goes_back_to(make: Callable[..., Run]) -> None:
    run = make()
    former = proved(run)
    release_generation(run.session, former, force=False)
    newer = make(ef_construction=99)
    release_generation(newer.session, proved(newer), force=False)
    begun_and_killed(run, former)
    assert rollback_corpus(run.session, None)["generation"] == former.name
    assert is_restored(run, former)


def test_a_card_that_cannot_be_written_undoes_no_release(
    make: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    run = make()
    generation = proved(run)
    manifest = f"runs/{run.plan.run_id}/manifest.json"
    older = json.loads(run.session.store.get(manifest))
    del older["totals"]["ledger"]["by_type"]["faq"]["embedded_tokens"]  # as an older version wrote it
    run.session.store.put(manifest, json.dumps(older).encode())
    assert release_generation(run.session, generation, force=False)["generation"] == generation.name
    assert run.session.target.live(run.settings.corpus) == generation.name
    assert f"{generation.name} is released, but the card of its run could not be written" in caplog.text


def test_nothing_that_is_set_for_loading_goes_live(make: Callable[..., Run]) -> None:
    run, newer = make(), make(ef_construction=99)
    former = proved(run)
    release_generation(run.session, former, force=False)
    release_generation(newer.session, proved(newer), force=False)
    store, target, log, corpus = run.session.store, run.session.target, run.session.log, run.settings.corpus
    left = begun_and_killed(run, former)
    for refused in (lambda: rollback(target, log, corpus), lambda: release(store, target, log, corpus, left)):
        with pytest.raises(GateRefused, match="set for loading, not for searching"):
            refused()


def test_a_load_that_begins_again_makes_what_was_verified_a_thing_of_the_past_though_it_is_killed_at_once(
    make: Callable[..., Run],
) -> None:
    run = make()
    generation = proved(run)
    before = run.finished(generation)
    receipt = Path(run.settings.root.removeprefix("file://")) / run.receipts(generation).folder
    (receipt / f"{run.plan.partitions[0].id}.json").unlink()  # as if it were to be loaded again
    run.session.target.begin_load = _killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.load()
    assert not is_proved(run.session, generation)
    assert loads_finished(run.session.store, run.receipts(generation)) == before + 1


def _killed(name: str) -> None:
    raise KeyboardInterrupt
