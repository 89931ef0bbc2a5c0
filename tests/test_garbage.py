"""What gc finds and deletes, and all that it keeps because somebody has it, may have it, or wrote to it lately."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import pytest

from jobs.session import Session
from jobs.verbs.embed import embed_run
from jobs.verbs.garbage import collect_garbage, describe, survey
from jobs.verbs.generations import drop_generation
from jobs.verbs.plan import open_or_plan, plan_corpus
from jobs.verbs.release import release_generation, rollback_corpus
from jobs.verbs.verify import must_pass, verify_run
from pipelines.closed import MARK, close_run, is_closed, manifest_key
from pipelines.errors import GateRefused, RunClosed, TargetError
from pipelines.garbage import Garbage, GcSettings
from pipelines.manifest import create_manifest, read_manifest
from pipelines.plan.plan import is_open, list_runs
from pipelines.sweep import in_both, sweep
from pipelines.targets.target import Generation
from tests.e2e.command import backhaul_here
from tests.test_load import Run

GC = {"grace_s": 0, "idle_s": 0}


class Corpus:
    """Each release is of another run: of the same documents in parts of another size."""

    def __init__(self, source: Path, root: Path) -> None:
        self.source, self.root = source, root
        self.released: list[tuple[Run, Generation]] = []

    def run(self, rows_per_part: int, **more: Any) -> Run:
        embed = {"backend": "hash", "dimensions": 16, "rows_per_part": rows_per_part}
        return Run(self.source, root=f"file://{self.root}", embed=embed, gc=GC, index={"keep_releases": 1}, **more)

    def release(self, rows_per_part: int) -> tuple[Run, Generation]:
        run = self.run(rows_per_part)
        generation = run.load()
        must_pass(verify_run(run.session, run.plan, run.manifest, generation))
        release_generation(run.session, generation, force=True)
        self.released.append((run, generation))
        return run, generation

    def copied(self, root: Path) -> Corpus:
        """Nothing that is kept holds the root's own path."""
        shutil.copytree(self.root, root)
        made = Corpus(self.source, root)
        for run, generation in self.released:
            its = copy(run)
            its.settings = run.settings.model_copy(update={"root": f"file://{root}"})
            its.session = Session(its.settings, quiet=True)
            made.released.append((its, generation))
        return made

    def age(self) -> None:
        at = time.time() - 3600
        for path in (self.root / "runs").glob("**/*"):
            os.utime(path, (at, at))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.glob("**/*") if path.is_file()}

    def gc(self, run: Run) -> dict[str, Any]:
        self.age()
        return collect_garbage(run.session, survey(run.session))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path, tmp_path / "root")


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("released")
    made = Corpus(folder, folder / "root")
    for size in (8, 9, 10):
        made.release(size)
    return made


@pytest.fixture
def three(_three: Corpus, tmp_path: Path) -> Corpus:
    """Three releases, of which the second and the third are to be kept."""
    return _three.copied(tmp_path / "root")


def dead_runs(garbage: Garbage) -> dict[str, str]:
    return {run.run_id: run.why for run in garbage.runs}


def test_while_nothing_is_live_everything_is_kept(corpus: Corpus) -> None:
    run = corpus.run(8)
    generation = run.load()
    corpus.age()
    found = survey(run.session)
    assert found.is_empty
    assert found.kept == {
        generation.name: "nothing is live",
        f"run {run.plan.run_id}": f"generation {generation.name} is kept",
    }


def test_generations_and_runs_beyond_those_kept_go_and_nothing_else(three: Corpus) -> None:
    corpus = three
    (first, oldest), (second, before), (third, live) = three.released
    result = corpus.gc(third)
    assert result["deleted"]["generations"] == [oldest.name]
    assert result["deleted"]["runs"] == [first.plan.run_id]
    assert {each.name for each in third.session.target.generations("papers")} == {before.name, live.name}
    assert not [
        file for file in corpus.files() if first.plan.run_id in file and file != manifest_key(first.plan.run_id)
    ]
    must_pass(verify_run(second.session, second.plan, second.manifest, before))
    assert rollback_corpus(third.session, None)["generation"] == before.name
    assert corpus.gc(third)["deleted"] == {"generations": [], "runs": [], "objects": 0}


def test_what_was_written_to_lately_is_left_alone(three: Corpus) -> None:
    *_, (last, _) = three.released
    assert survey(last.session).is_empty
    assert list(survey(last.session).kept.values()).count("written to lately (gc.idle_s)") == 1
    three.age()
    assert not survey(last.session).is_empty


def test_after_a_rollback_the_way_forth_is_kept_as_well(three: Corpus) -> None:
    *_, (run, newest) = three.released
    rollback_corpus(run.session, None)
    three.age()
    assert survey(run.session).is_empty
    assert survey(run.session).kept[newest.name] == "live lately (index.keep_releases 1)"


def abandoned(corpus: Corpus) -> str:
    """A run that is begun and never completed."""
    run = corpus.run(8)
    run.session.store.delete([manifest_key(run.plan.run_id)])
    return run.plan.run_id


def test_an_abandoned_run_is_closed_before_it_is_swept(corpus: Corpus) -> None:
    run_id = abandoned(corpus)
    last, _ = corpus.release(9)
    corpus.age()
    found = survey(last.session)
    assert dead_runs(found) == {run_id: "never completed, and a later run is live"}
    collect_garbage(last.session, found)
    assert is_closed(last.session.store, run_id)
    assert [file for file in corpus.files() if run_id in file] == [manifest_key(run_id)]
    assert run_id not in {record.run_id for record in list_runs(last.session.store, "papers")}


def test_an_abandoned_run_that_was_written_to_lately_is_left_alone(corpus: Corpus) -> None:
    run_id = abandoned(corpus)
    last, _ = corpus.release(9)
    found = survey(last.session)
    assert found.is_empty
    assert found.kept[f"run {run_id}"] == "written to lately (gc.idle_s)"


def test_an_open_run_planned_later_than_the_live_one_is_kept(corpus: Corpus) -> None:
    last, _ = corpus.release(9)
    run_id = abandoned(corpus)
    corpus.age()
    assert survey(last.session).is_empty
    assert is_open(last.session.store, run_id)


def test_whoever_still_works_at_a_closed_run_cannot_complete_it(corpus: Corpus) -> None:
    run = corpus.run(8)
    store, run_id = run.session.store, run.plan.run_id
    store.delete([manifest_key(run_id)])
    assert close_run(store, run_id)
    with pytest.raises(
        RunClosed, match=f"run {run_id} was closed by `backhaul gc`.*`backhaul run CONF` plans the corpus anew"
    ):
        embed_run(run.session, run.plan)
    with pytest.raises(RunClosed):
        create_manifest(store, run.manifest)


def test_a_completed_run_cannot_be_closed_as_abandoned(corpus: Corpus) -> None:
    run = corpus.run(8)
    assert not close_run(run.session.store, run.plan.run_id)
    assert read_manifest(run.session.store, run.plan.run_id) == run.manifest


def test_planning_what_was_closed_makes_another_run_of_the_same_content(corpus: Corpus) -> None:
    run = corpus.run(8)
    store, run_id = run.session.store, run.plan.run_id
    store.put(manifest_key(run_id), MARK)
    planned = open_or_plan(run.session)
    assert planned.plan.run_id != run_id
    assert planned.how == "planned"
    assert plan_corpus(run.session).plan.run_id == planned.plan.run_id
    again = embed_run(run.session, planned.plan)
    assert again is not None
    assert again.content_digest == run.manifest.content_digest


def test_a_sweep_that_was_broken_off_goes_on(three: Corpus) -> None:
    first, *_, (last, _) = three.released
    run_id = first[0].plan.run_id
    store = last.session.store
    store.put(manifest_key(run_id), MARK)
    store.delete([f"corpora/papers/runs/00000001-{run_id}.json"])
    three.gc(last)
    assert [file for file in three.files() if run_id in file] == [manifest_key(run_id)]


def test_a_planning_that_was_broken_off_is_swept(corpus: Corpus) -> None:
    last, _ = corpus.release(9)
    last.session.store.put("runs/0123456789abcdef/objects.parquet", b"half a plan")
    corpus.age()
    assert dead_runs(survey(last.session)) == {"0123456789abcdef": "no corpus has it: its planning was broken off"}
    corpus.gc(last)
    assert [file for file in corpus.files() if "0123456789abcdef" in file] == [manifest_key("0123456789abcdef")]


def test_runs_of_another_corpus_are_kept(three: Corpus) -> None:
    first, *_, (last, _) = three.released
    other = three.run(8, corpus="others")
    assert other.plan.run_id == first[0].plan.run_id
    three.age()
    assert dead_runs(survey(last.session)) == {}
    assert survey(last.session).kept[f"run {other.plan.run_id}"] == "corpus others has it, too"


def test_runs_released_on_another_target_are_kept(three: Corpus) -> None:
    (first, oldest), *_, (last, _) = three.released
    last.session.log.append("another-cluster", oldest.name, after=None)
    three.age()
    found = survey(last.session)
    assert [old.generation.name for old in found.generations] == [oldest.name]
    assert dead_runs(found) == {}
    assert found.kept[f"run {first.plan.run_id}"] == f"generation {oldest.name} was released on target another-cluster"


def test_a_part_that_lost_against_another_attempts_goes(corpus: Corpus) -> None:
    run, _ = corpus.release(8)
    partition = run.plan.partitions[0].id
    loser = f"runs/{run.plan.run_id}/parts/{partition}/000000-{'0' * 64}.parquet"
    run.session.store.put(loser, b"another attempt's")
    before = corpus.files()
    assert describe(run.session, survey(run.session))["parts"]["objects"] == 0  # written to lately
    corpus.gc(run)
    assert before - corpus.files() == {loser}


def test_a_manifest_that_cannot_be_read_stops_it(corpus: Corpus) -> None:
    run, _ = corpus.release(8)
    path = corpus.root / manifest_key(run.plan.run_id)
    path.write_bytes(path.read_bytes().replace(b'"rows":', b'"tows":', 1))
    corpus.age()
    with pytest.raises(GateRefused, match="is damaged: its root digest does not match"):
        survey(run.session)


def _touched(corpus: Corpus, first: Run) -> None:
    path = corpus.root / "runs" / first.plan.run_id / "plan.json"
    os.utime(path, (time.time() - 1800, time.time() - 1800))


def _released(corpus: Corpus, first: Run) -> None:
    release_generation(first.session, first.load(), force=True)
    corpus.age()


@pytest.mark.parametrize("between", [_touched, _released])
def test_what_was_used_between_the_two_looks_stays(three: Corpus, between: Callable[[Corpus, Run], None]) -> None:
    (first, _), *_, (last, _) = three.released
    three.age()
    before = survey(last.session)
    assert dead_runs(before).keys() == {first.plan.run_id}
    between(three, first)
    assert not in_both(before, survey(last.session)).runs


class Meanwhile(Session):
    """Something happens while gc waits."""

    def __init__(self, run: Run, happens: Callable[[], object]) -> None:
        super().__init__(run.settings.model_copy(update={"gc": GcSettings(idle_s=0, grace_s=0.01)}))
        self._happens = happens

    def say(self, text: str) -> None:
        if "before the second look" in text:
            self._happens()


def test_what_another_corpus_plans_while_gc_waits_is_kept(three: Corpus) -> None:
    (first, _), *_, (last, _) = three.released
    three.age()
    session = Meanwhile(last, lambda: three.run(8, corpus="others"))
    assert collect_garbage(session, survey(session))["deleted"]["runs"] == []
    assert read_manifest(session.store, first.plan.run_id) == first.manifest


def records_of(corpus: Corpus, generation: Generation) -> set[str]:
    return {
        file for file in corpus.files() if f"{generation.name}/{generation.uuid}" in file and "lancedb/" not in file
    }


def test_a_drop_takes_the_records_of_its_index_along(corpus: Corpus) -> None:
    (first, generation), _ = corpus.release(8), corpus.release(9)
    assert records_of(corpus, generation)
    drop_generation(first.session, generation.name)
    assert not records_of(corpus, generation)
    assert first.load().rows == 90


def test_what_is_live_meanwhile_is_not_dropped_and_keeps_its_records(three: Corpus) -> None:
    (first, _), *_, (last, _) = three.released
    three.age()
    found = survey(last.session)
    release_generation(first.session, first.load(), force=True)
    before = three.files()
    with pytest.raises(TargetError, match="is live"):
        sweep(last.session.store, last.session.target, "papers", found, lambda text: None)
    assert {file for file in before ^ three.files() if "lancedb/" not in file} == set()


class TestCommand:
    @pytest.fixture
    def conf(self, three: Corpus, tmp_path: Path) -> Path:
        three.age()
        run, _ = three.released[-1]
        conf = tmp_path / "run.json"
        conf.write_text(run.settings.model_dump_json())
        return conf

    def test_list_deletes_nothing(self, conf: Path, three: Corpus) -> None:
        before = three.files()
        outcome = backhaul_here("gc", conf, "--list")
        assert outcome.code == 0, outcome.err
        first, *lines = outcome.out.splitlines()
        assert "90 rows: others were live since" in first
        assert "no kept generation is of it" in lines[0]
        assert any(line.endswith(": live") for line in lines)
        assert three.files() == before

    def test_records_of_an_index_whose_drop_was_broken_off_are_told_and_go(self, conf: Path, three: Corpus) -> None:
        *_, (last, live) = three.released
        assert backhaul_here("gc", conf, "--yes").code == 0
        mark = f"runs/{live.meta.run_id}/loads/gone/0/dropped/mark.json"
        last.session.store.put(mark, b"{}")
        assert "whose drop was broken off: 1" in backhaul_here("gc", conf, "--list").out
        assert backhaul_here("gc", conf, "--yes").code == 0
        assert mark not in three.files()

    def test_it_asks_and_nobody_there_to_answer_is_a_no(self, conf: Path, three: Corpus) -> None:
        before = three.files()
        outcome = backhaul_here("gc", conf)
        assert outcome.code == 2
        assert "Delete 1 generation, and" in outcome.err
        assert "add --yes" in outcome.err
        assert "others were live since" in outcome.out
        assert three.files() == before

    def test_yes_deletes_and_a_second_one_finds_nothing(self, conf: Path, three: Corpus) -> None:
        outcome = backhaul_here("gc", conf, "--yes", "--json")
        assert outcome.code == 0, outcome.err
        assert len(outcome.json["deleted"]["generations"]) == len(outcome.json["deleted"]["runs"]) == 1
        assert "papers: nothing to delete" in backhaul_here("gc", conf, "--yes").out
        assert backhaul_here("verify", conf, "--generation", three.released[1][1].name).code == 0
