"""Retry: which partitions run again, what is forgotten, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_three_partitions
from tests.e2e.poison import partition_of

ARRAY = ("--set", "engine.name=batch_array")


@contextmanager
def away(path: Path) -> Iterator[None]:
    """The object is gone for a while."""
    path.rename(path.with_suffix(".kept"))
    try:
        yield
    finally:
        path.with_suffix(".kept").rename(path)


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    try:
        yield
    finally:
        path.write_bytes(data)


def _object(folder: Path, kind: str) -> Path:
    return next((folder / "source" / kind).iterdir())


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Planned; two of three partitions failed, and can be done now."""
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    with away(_object(tmp_path, "guide")), away(_object(tmp_path, "note")):
        assert backhaul_here("embed", conf).code == 1
    return conf


def _failed(conf: Path, *words: str) -> list[str]:
    groups = backhaul_here("failures", conf, *words, "--json").json["partitions"]
    return sorted(example["partition"] for group in groups for example in group["examples"])


def test_all_that_failed_runs_again_and_is_no_failure_any_more(conf: Path) -> None:
    assert len(_failed(conf)) == 2
    outcome = backhaul_here("retry", conf)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"ran 2 partitions of embed again; all are done now\nnext: backhaul run {conf}\n"
    assert _failed(conf) == []
    assert backhaul_here("status", conf, "--json").json["rows"] == 180


def test_one_partition_runs_again_by_the_beginning_of_its_id(conf: Path) -> None:
    chosen, other = partition_of(conf, "guide/"), partition_of(conf, "note/")
    outcome = backhaul_here("retry", conf, "--partition", chosen[:12])
    assert outcome.code == 0, outcome.err
    assert "ran 1 partition of embed again" in outcome.out
    assert "1 partition failed before and did not run (backhaul failures" in outcome.out
    assert _failed(conf) == [other]


def test_a_cause_that_nothing_failed_for_runs_nothing_and_names_those_there_are(conf: Path) -> None:
    outcome = backhaul_here("retry", conf, "--cause", "worker died")
    assert outcome.code == 0
    assert "nothing to retry" in outcome.out
    assert "those that failed did so for SourceChanged;" in outcome.out
    assert len(_failed(conf)) == 2


def test_a_partition_that_is_not_in_the_run_is_wrong_usage(conf: Path) -> None:
    outcome = backhaul_here("retry", conf, "--partition", "zz")
    assert outcome.code == 2
    assert "begins with 'zz'" in outcome.err
    assert backhaul_here("retry", conf, "--partition", partition_of(conf, "faq/")).out.startswith("nothing to retry")


def test_a_source_that_is_another_one_now_is_planned_anew(conf: Path) -> None:
    (group,) = backhaul_here("failures", conf, "--set", "engine.workers=0", "--json").json["partitions"]
    assert group["next"] == f"backhaul run {conf} --set engine.workers=0 --replan"
    assert f"plan again: `backhaul run {conf} --set engine.workers=0 --replan`" in group["examples"][0]["message"]


def test_what_fails_again_stays_a_failure(conf: Path, tmp_path: Path) -> None:
    with away(_object(tmp_path, "note")):
        outcome = backhaul_here("retry", conf, "--json")
        assert outcome.code == 1
        assert "1 of 2 partitions failed" in outcome.json["message"]
        assert _failed(conf) == [partition_of(conf, "note/")]


def test_what_another_command_mended_is_no_failure_any_more(conf: Path) -> None:
    (failures,) = conf.parent.glob("root/runs/*/failures/embed")
    before = {path.name: path.read_bytes() for path in failures.iterdir()}
    assert backhaul_here("embed", conf).code == 0
    assert list(failures.iterdir()) == []
    for name, record in before.items():  # as a driver leaves it that failed while this one did it
        (failures / name).write_bytes(record)
    assert backhaul_here("status", conf, "--json").json["failures"] == 0
    assert _failed(conf) == []
    assert backhaul_here("retry", conf).out.startswith("nothing to retry")


def test_an_array_retries_nothing_but_its_attempts_can_be_given_back(conf: Path) -> None:
    outcome = backhaul_here("retry", conf, *ARRAY)
    assert outcome.code == 2
    assert "--clear-only" in outcome.err
    assert "--engine local" in outcome.err
    cleared = backhaul_here("retry", conf, *ARRAY, "--clear-only")
    assert cleared.code == 0, cleared.err
    assert "2 partitions of embed may be tried again as if for the first time; nothing was run" in cleared.out
    assert f"next: backhaul embed {conf} --set engine.name=batch_array" in cleared.out
    status = backhaul_here("status", conf, "--json").json
    assert (status["failures"], status["stages"]["embed"]["pending"], status["interruptions"]) == (0, 2, 0)


def test_marks_for_on_demand_capacity_are_forgotten_with_the_attempts(conf: Path, tmp_path: Path) -> None:
    (root,) = (tmp_path / "root" / "runs").iterdir()
    mark = root / "on-demand" / "embed" / f"{partition_of(conf, 'guide/')}.json"
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    assert len(backhaul_here("status", conf, "--json").json["on_demand"]) == 1
    assert backhaul_here("retry", conf, "--clear-only").code == 0
    assert not mark.exists()


def test_a_load_and_a_verification_that_failed_run_again(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("embed", conf).code == 0
    part = next((tmp_path / "root").glob(f"runs/*/parts/{partition_of(conf, 'note/')}/*"))
    with damaged(part):
        assert backhaul_here("load", conf).code == 3
        (group,) = backhaul_here("failures", conf, "--json").json["partitions"]
        assert (group["stage"], group["count"]) == ("load", 1)
    assert backhaul_here("retry", conf).out.startswith("ran 1 partition of load again; all are done now\n")
    with damaged(part):
        assert backhaul_here("verify", conf).code == 3
        assert "verify: 1 partition failed: GateRefused" in backhaul_here("failures", conf).out
    assert backhaul_here("retry", conf).out.startswith("ran 1 partition of verify again")
    status = backhaul_here("status", conf, "--json").json
    assert (status["failures"], status["stages"]["verify"]["passed"]) == (0, True)
