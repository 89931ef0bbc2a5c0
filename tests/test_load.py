"""Loading into a real index: only what is missing, each row once, and what the index refuses is kept and counted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from jobs.session import PartitionsFailed, Session
from jobs.settings import Settings
from jobs.verbs.embed import embed_run
from jobs.verbs.load import load_run, load_task
from jobs.verbs.plan import plan_corpus
from jobs.verbs.verify import must_pass, verify_run
from pipelines.errors import GateRefused, Interrupted, NotFound, TargetError
from pipelines.load import LoadWork, loads_finished, must_read_manifest
from pipelines.manifest import Manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import load_receipts
from pipelines.targets.target import Generation, Meta
from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.opensearch import delete_indices


class Run:
    """An embedded run of three objects in three partitions, ready to be loaded."""

    def __init__(self, folder: Path, *, corpus: str = "papers", **more: Any) -> None:
        source = folder / "source"
        if not source.exists():
            write_corpus(source, objects=3, documents=30)
        self.settings = Settings.model_validate({
            "corpus": corpus, "root": f"file://{folder}/root",
            "source": {"uri": f"file://{source}", "fields": {"doc_type": "kind", "metadata": ["rank"]}},
            "split": {"method": "none", "template": "{title} {text}"},
            "partition": {"path": "{doc_type}/**", "by": ["doc_type"]},
            "embed": {"backend": "hash", "dimensions": 16, "rows_per_part": 8}, "engine": {"workers": 0}, **more,
        })  # fmt: skip
        self.session = Session(self.settings, quiet=True)
        self.plan: Plan = plan_corpus(self.session).plan
        manifest = embed_run(self.session, self.plan)
        assert manifest
        self.manifest: Manifest = manifest

    def create(self) -> Generation:
        meta = Meta(self.settings.corpus, self.plan.run_id, self.manifest.space, ("rank",))
        return self.session.target.create(self.session.generation_name(self.plan.run_id), meta, 16)

    def work(self, generation: Generation) -> LoadWork:
        return LoadWork(load_task(self.session, generation))

    def load(self, **more: Any) -> Generation:
        return load_run(self.session, self.plan, self.manifest, **more)

    def finished(self, generation: Generation) -> int:
        return loads_finished(self.session.store, self.receipts(generation))

    def receipts(self, generation: Generation) -> Any:
        return load_receipts(self.session.store, self.plan.run_id, generation.name, generation.uuid)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_partition_is_loaded_once_and_a_second_call_returns_its_receipt(run: Run) -> None:
    generation, partition = run.create(), run.plan.partitions[0]
    receipt = run.work(generation)(partition)
    assert (receipt["rows"], receipt["rejects"]["counts"]) == (30, {})
    run.session.target.delete(generation.name, _ids(run, generation, partition.id)[:1])
    assert run.work(generation)(partition) == receipt
    assert run.session.target.count(generation.name, partition.id) == 29


def _ids(run: Run, generation: Generation, partition_id: str) -> list[str]:
    pages = run.session.target.scan(generation.name, partition_id)
    return [row["id"] for page in pages for row in page.rows]


def test_a_load_interrupted_between_parts_goes_on_and_ends_exact(run: Run) -> None:
    generation, partition = run.create(), run.plan.partitions[0]
    work = run.work(generation)
    told = iter([False, True])
    work.stopping = lambda: next(told)
    with pytest.raises(Interrupted):
        work(partition)
    assert run.receipts(generation).committed() == set()
    verification = verify_run(run.session, run.plan, run.manifest, run.load())
    must_pass(verification)


def test_rows_that_were_lost_during_the_load_are_noticed_before_it_is_finished(run: Run) -> None:
    generation, partition = run.create(), run.plan.partitions[0]
    run.work(generation)(partition)
    run.session.target.delete(generation.name, _ids(run, generation, partition.id)[:2])
    for _ in range(2):
        with pytest.raises(
            TargetError,
            match=rf"holds 28 rows of partition {partition.id[:12]}, of which 30 were loaded.*backhaul repair",
        ):
            run.load()
    assert run.finished(generation) == 0


def test_a_partition_whose_rows_are_all_there_is_not_sent_again(run: Run) -> None:
    generation = run.load()
    partition = run.plan.partitions[0]
    folder = Path(run.settings.root.removeprefix("file://"))
    (folder / run.receipts(generation).folder / f"{partition.id}.json").unlink()
    beats: list[Any] = []
    work = run.work(generation)
    work.report = beats.append
    assert work(partition)["rows"] == 30
    assert beats == []


@pytest.mark.parametrize("again", [False, True], ids=["dropped", "dropped and made anew"])
def test_an_index_dropped_in_the_middle_is_noticed_and_the_same_command_mends_it(run: Run, again: bool) -> None:
    generation = run.create()
    work = run.work(generation)
    work(run.plan.partitions[0])
    run.session.target.drop(generation.name)
    if again:
        run.create()
    with pytest.raises(TargetError, match=r"was dropped or made anew.*run `backhaul load CONF` again"):
        work(run.plan.partitions[1])
    assert run.load().rows == 90


def test_loading_some_partitions_alone_does_not_finish_the_load(run: Run) -> None:
    generation = run.load(only={run.plan.partitions[0].id})
    assert run.finished(generation) == 0
    with pytest.raises(GateRefused, match="never loaded to the end"):
        verify_run(run.session, run.plan, run.manifest, generation)
    assert run.finished(run.load(only={p.id for p in run.plan.partitions})) == 1


def test_a_finished_load_is_left_as_it_is(run: Run) -> None:
    assert run.finished(run.load()) == run.finished(run.load()) == 1


def test_a_part_damaged_before_the_load_fails_its_partition_alone_and_names_the_file(run: Run) -> None:
    damaged = sorted((Path(run.settings.root.removeprefix("file://")) / "runs").glob("*/parts/*/000001-*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(PartitionsFailed, match=rf"1 of 3 partitions failed[^$]*{damaged.name} is damaged") as caught:
        run.load()
    assert caught.value.exit_code == 3


def test_a_run_without_a_manifest_cannot_be_loaded_and_says_what_to_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(NotFound, match="run 123 has no manifest yet; `backhaul embed CONF` finishes it"):
        must_read_manifest(run.session.store, "123")


def test_dropped_duplicates_are_not_loaded(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=2, documents=30)
    original = next((source / "faq").iterdir())
    (source / "note").mkdir()
    (source / "note" / "again.jsonl").write_bytes(original.read_bytes())
    fields = {"doc_type": "kind", "metadata": ["rank"]}
    run = Run(tmp_path, source={"uri": f"file://{source}", "fields": fields, "on_duplicate": "first"})
    generation = run.load()
    assert generation.rows == 60
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))


TOO_LONG = 40_000  # bytes: a term of Lucene holds 32,766


@pytest.fixture
def with_refusals(tmp_path: Path, opensearch_url: str) -> Iterator[Callable[..., Run]]:
    """A run of two documents that OpenSearch takes and two whose type is too long for it."""
    corpus = f"c{uuid.uuid4().hex[:10]}"
    rows = [{"id": f"d{i}", "text": f"words {i}", "kind": "k" * TOO_LONG if i % 2 else "note"} for i in range(4)]
    (tmp_path / "source" / "note").mkdir(parents=True)
    (tmp_path / "source" / "note" / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))

    def make(**index: Any) -> Run:
        return Run(
            tmp_path, corpus=corpus, index={"target": "opensearch", "url": opensearch_url, "replicas": 0, **index}
        )

    yield make
    delete_indices(opensearch_url, corpus)


@pytest.mark.opensearch
def test_rows_that_the_index_refuses_are_kept_with_its_reason_and_fail_the_load(
    with_refusals: Callable[..., Run],
) -> None:
    run = with_refusals()
    with pytest.raises(GateRefused, match=r"refused 2 rows for good \(\w+ 2\), over index\.max_dead_letters 0"):
        run.load()
    generation = run.create()
    receipt = run.receipts(generation).find(run.plan.partitions[0].id)
    kept = load_task(run.session, generation).dead_letters(run.session.store).read(receipt["rejects"])
    assert [(each.letter.document_id, each.letter.number, each.part, each.row) for each in kept] == [
        ("d1", 1, 0, 1), ("d3", 3, 0, 3)]  # fmt: skip
    assert {each.letter.status for each in kept} == {400}
    assert "immense term" in kept[0].letter.reason


@pytest.mark.opensearch
def test_refused_rows_over_the_limit_cannot_go_live_by_way_of_verify(with_refusals: Callable[..., Run]) -> None:
    run = with_refusals()
    with pytest.raises(GateRefused):
        run.load()
    verification = verify_run(run.session, run.plan, run.manifest, run.create())
    assert [gate.name for gate in verification.gates if not gate.passed] == ["dead letters"]


@pytest.mark.opensearch
def test_refused_rows_within_the_limit_are_not_expected_in_the_index(with_refusals: Callable[..., Run]) -> None:
    run = with_refusals(max_dead_letters=2)
    generation = run.load()
    assert generation.rows == 2
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))


def test_a_date_that_no_index_takes_is_a_reject_of_the_reader(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "words", "day": "not a date"}, {"id": "b", "text": "words", "day": "2024-02-29"}]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    conf = write_conf(tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{tmp_path}/source",
                      engine={"workers": 0}, limits={"max_reject_share": 0.5})  # fmt: skip
    outcome = backhaul_here("run", conf, "--set", "source.fields.date=day")
    assert outcome.code == 0, outcome.err
    assert "wrong_type" in backhaul_here("failures", conf, "--set", "source.fields.date=day").out
