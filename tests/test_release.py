"""Making a generation live: only a proved one, only a newer one, by one winner; and the way back."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.digest import canonical_json
from pipelines.errors import AliasMoved, GateRefused, SettingsError
from pipelines.load import mark_finished
from pipelines.receipts import load_receipts
from pipelines.release import Released, release, rollback
from pipelines.releases import ReleaseLog
from pipelines.space import Space
from pipelines.storage import StorageSettings
from pipelines.store import ObjectStore, open_store
from pipelines.targets.on_lancedb import LanceTarget
from pipelines.targets.on_opensearch import OpenSearchTarget
from pipelines.targets.target import Generation, IndexSettings, IndexTarget, Meta
from pipelines.verify.gates import Gate
from pipelines.verify.record import make_verification, record_verification
from tests.fixtures.opensearch import delete_indices

SPACE = Space("w" * 64, "t" * 64, "mean", "", "", True, 256, 4)
GOOD, BAD = Gate("ids", True, "0 missing", "0"), Gate("ids", False, "3 missing", "0")


@dataclass
class Place:
    """A corpus with generations of planned runs, on one real target; empty tables are enough to be released."""

    store: ObjectStore
    target: IndexTarget
    corpus: str

    @property
    def log(self) -> ReleaseLog:
        return ReleaseLog(self.store, self.corpus)

    def generation(self, number: int) -> Generation:
        """Planned as the corpus's ``number``-th run."""
        run = f"{number:032d}"
        value = {"deciding": "d", "planned_at_ms": number}
        self.store.put(f"corpora/{self.corpus}/runs/{number:08d}-{run}.json", canonical_json(value))
        return self.target.create(f"{self.corpus}-{number}", Meta(self.corpus, run, SPACE.to_json(), ()), 4)

    def load(self, generation: Generation) -> int:
        run = generation.meta.run_id
        self.target.finish_load(generation.name)
        return mark_finished(self.store, load_receipts(self.store, run, generation.name, generation.uuid))

    def proved(self, number: int, gate: Gate = GOOD) -> Generation:
        generation = self.generation(number)
        verification = make_verification(generation, self.load(generation), [gate])
        record_verification(self.store, self.corpus, verification)
        return self.found(generation.name)

    def found(self, name: str) -> Generation:
        found = self.target.find(name)
        assert found is not None
        return found

    def release(self, generation: Generation, *, force: bool = False) -> Released:
        return release(self.store, self.target, self.log, self.corpus, generation, force=force)

    def rollback(self, to: str | None = None) -> Released:
        return rollback(self.target, self.log, self.corpus, to)

    @property
    def live(self) -> str | None:
        return self.target.live(self.corpus)


def _lance(folder: Path, corpus: str) -> Place:
    store = open_store(f"file://{folder}/root", create=True)
    settings, log = IndexSettings(), ReleaseLog(store, corpus)
    return Place(store, LanceTarget(settings, f"file://{folder}/lance", StorageSettings(), log), corpus)


@pytest.fixture(params=["lancedb", "opensearch"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "lancedb":
        return _lance(tmp_path, "papers")
    return _open_search(request, tmp_path)


@pytest.fixture
def lance(tmp_path: Path) -> Place:
    return _lance(tmp_path, "papers")


def test_a_proved_generation_goes_live_and_again_changes_nothing(place: Place) -> None:
    one = place.proved(1)
    assert place.release(one) == Released(one.name, None, True)
    assert place.release(one) == Released(one.name, None, False)
    assert place.live == one.name
    assert len(place.log.all(place.target.id)) == 1


def test_going_back_twice_goes_back_two_and_then_says_there_is_no_more(place: Place) -> None:
    one, two, three = (place.proved(number) for number in (1, 2, 3))
    for generation in (one, two, three):
        place.release(generation)
    assert place.rollback() == Released(two.name, three.name, True)
    assert place.rollback() == Released(one.name, two.name, True)
    with pytest.raises(SettingsError, match=f"no release before {one.name}.*backhaul list CONF"):
        place.rollback()
    assert place.live == one.name


def test_a_generation_that_was_gone_back_from_can_be_released_again(lance: Place) -> None:
    one, two = lance.proved(1), lance.proved(2)
    lance.release(one)
    lance.release(two)
    lance.rollback()
    assert lance.release(two).previous == one.name
    assert lance.rollback().generation == one.name


def test_going_back_to_a_named_generation(lance: Place) -> None:
    one, two, three = (lance.proved(number) for number in (1, 2, 3))
    for generation in (one, two, three):
        lance.release(generation)
    assert lance.rollback(one.name).generation == one.name


def test_going_back_to_one_that_is_gone_is_refused_by_name(lance: Place) -> None:
    one, two = lance.proved(1), lance.proved(2)
    lance.release(one)
    lance.release(two)
    lance.target.drop(one.name)
    with pytest.raises(SettingsError, match=f"{one.name} no longer exists"):
        lance.rollback()


def test_without_a_live_generation_there_is_nothing_to_go_back_from(lance: Place) -> None:
    with pytest.raises(SettingsError, match="no live generation"):
        lance.rollback()


def test_one_that_was_never_verified_is_refused(lance: Place) -> None:
    generation = lance.generation(1)
    lance.load(generation)
    with pytest.raises(GateRefused, match="never verified; run `backhaul verify CONF`"):
        lance.release(generation, force=True)
    assert lance.live is None


def test_one_that_failed_its_verification_is_refused_with_the_gate(lance: Place) -> None:
    with pytest.raises(GateRefused, match=r"failed its verification \(ids: 3 missing\)"):
        lance.release(lance.proved(1, BAD))


def test_the_newest_verification_decides(lance: Place) -> None:
    generation = lance.proved(1, BAD)
    record_verification(lance.store, lance.corpus, make_verification(generation, 1, [GOOD]))
    assert lance.release(generation).changed
    record_verification(lance.store, lance.corpus, make_verification(generation, 1, [BAD]))
    with pytest.raises(GateRefused, match="failed its verification"):
        lance.release(generation)


def test_a_load_after_the_verification_makes_it_stale(lance: Place) -> None:
    generation = lance.proved(1)
    lance.load(generation)
    with pytest.raises(GateRefused, match="loaded again after its verification"):
        lance.release(generation)


def test_a_generation_dropped_and_made_again_needs_a_proof_of_its_own(lance: Place) -> None:
    generation = lance.proved(1)
    lance.target.drop(generation.name)
    with pytest.raises(GateRefused, match="never verified"):
        lance.release(lance.generation(1))


def test_one_planned_earlier_than_the_live_one_needs_force(lance: Place) -> None:
    one, two = lance.proved(1), lance.proved(2)
    lance.release(two)
    with pytest.raises(GateRefused, match=f"{one.name} was planned earlier than the live one, {two.name}.*--force"):
        lance.release(one)
    assert lance.live == two.name
    assert lance.release(one, force=True).previous == two.name


def test_a_run_planned_again_counts_as_planned_last(lance: Place) -> None:
    one, two = lance.proved(1), lance.proved(2)
    lance.release(two)
    value = canonical_json({"deciding": "d", "planned_at_ms": 3})
    lance.store.put(f"corpora/papers/runs/00000003-{one.meta.run_id}.json", value)
    assert lance.release(one).changed


def _race(place: Place, generations: list[Generation]) -> tuple[list[Released], list[Exception]]:
    released: list[Released] = []
    refused: list[Exception] = []
    start = threading.Barrier(len(generations))

    def go(generation: Generation) -> None:
        start.wait(10)
        try:
            released.append(place.release(generation, force=True))
        except AliasMoved as error:
            refused.append(error)

    threads = [threading.Thread(target=go, args=(generation,)) for generation in generations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return released, refused


def test_of_racing_first_releases_what_is_live_was_released_and_its_record_says_so(place: Place) -> None:
    generations = [place.proved(number) for number in (1, 2)]
    released, refused = _race(place, generations)
    assert len(released) + len(refused) == 2
    assert released
    assert place.live in {each.generation for each in released}
    newest = place.log.newest(place.target.id)
    assert newest is not None
    assert newest.generation == place.live


def test_two_commands_that_release_the_same_both_succeed(place: Place) -> None:
    one = place.proved(1)
    released, refused = _race(place, [one, one, one])
    assert refused == []
    assert {each.generation for each in released} == {one.name}
    assert len(place.log.all(place.target.id)) == 1


@pytest.mark.opensearch
def test_a_release_killed_between_alias_and_record_is_recorded_by_the_same_command(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = _open_search(request, tmp_path)
    one, two = place.proved(1), place.proved(2)
    place.release(one)
    place.target.move_alias(place.corpus, one.name, two.name)  # and then the process was killed
    assert place.release(two) == Released(two.name, None, False)
    newest = place.log.newest(place.target.id)
    assert newest is not None
    assert (newest.number, newest.generation, newest.previous) == (2, two.name, one.name)


@pytest.mark.opensearch
def test_a_release_killed_between_alias_and_record_can_be_gone_back_from(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = _open_search(request, tmp_path)
    one, two = place.proved(1), place.proved(2)
    place.release(one)
    place.target.move_alias(place.corpus, one.name, two.name)
    assert place.rollback() == Released(one.name, two.name, True)
    assert place.live == one.name


def _open_search(request: pytest.FixtureRequest, folder: Path) -> Place:
    corpus, url = f"c{uuid.uuid4().hex[:10]}", request.getfixturevalue("opensearch_url")
    request.addfinalizer(lambda: delete_indices(url, corpus))
    store = open_store(f"file://{folder}/root", create=True)
    settings = IndexSettings(target="opensearch", url=url, replicas=0)
    return Place(store, OpenSearchTarget(settings, ReleaseLog(store, corpus)), corpus)


@pytest.mark.opensearch
def test_a_rollback_killed_between_alias_and_record_is_completed_by_the_same_command_and_goes_no_further(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    place = _open_search(request, tmp_path)
    one, two, three = (place.proved(number) for number in (1, 2, 3))
    for generation in (one, two, three):
        place.release(generation)
    place.target.move_alias(place.corpus, three.name, two.name)  # and then the process was killed
    assert place.rollback() == Released(two.name, None, False)
    assert place.rollback() == Released(one.name, two.name, True)
