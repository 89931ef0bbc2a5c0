"""Children of an array load one run together: only as many as the target takes, and the load is finished once, after
the last that began it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.load import load_corpus, load_run
from pipelines.errors import BackhaulError
from pipelines.load import must_read_manifest
from pipelines.targets.target import IndexTarget
from tests.e2e.array import Array


@pytest.fixture
def array(tmp_path: Path) -> Array:
    array = Array(tmp_path)
    assert array.command("embed", "--engine", "local").code == 0
    return array


def test_a_child_beyond_the_targets_writers_leaves_at_once_and_says_why(array: Array) -> None:
    left = array.command("load", "--index", "1", "--of", "2")
    assert left.code == 0
    assert "at most 1 may write to lancedb at once" in left.err
    assert "child 1 of 2 leaves" in left.err
    assert "0 of 8 partitions are loaded; 8 left to the array's other children" in left.out
    loaded = array.command("load", "--index", "0", "--of", "2", "--json")
    assert (loaded.code, loaded.json["complete"], loaded.json["rows"]) == (0, True, 480)
    late = array.command("load", "--index", "1", "--of", "2", "--json")
    assert (late.code, late.json["complete"], late.json["rows"]) == (0, True, 480)
    assert array.command("run", "--engine", "local").code == 0  # verified and live


def test_loading_before_the_manifest_is_there_says_what_makes_it(tmp_path: Path) -> None:
    array = Array(tmp_path)
    array.command("plan")
    outcome = array.command("load", "--index", "0", "--of", "2")
    assert outcome.code == 1
    assert f"has no manifest yet; `backhaul embed {array.conf}` finishes it" in outcome.err


class Noted:
    """The target, which takes two writers and notes who begins and finishes; ``meanwhile`` happens before a beginning."""

    max_writers = 2

    def __init__(self, target: IndexTarget, name: str, log: list[str], meanwhile: Callable[[], Any]) -> None:
        self._target, self._name, self._log, self._meanwhile = target, name, log, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def begin_load(self, name: str) -> None:
        self._meanwhile()
        self._log.append(f"{self._name} begins")
        self._target.begin_load(name)

    def finish_load(self, name: str) -> None:
        self._log.append(f"{self._name} finishes")
        self._target.finish_load(name)


class Child(Session):
    """Child ``index`` of two, which does ``in_between`` after it began to load, and before its first partition."""

    def __init__(self, array: Array, index: int, log: list[str], *, meanwhile: Callable[[], Any] = lambda: None,
                 in_between: Callable[[], Any] = lambda: None) -> None:  # fmt: skip
        words = [f"engine.batch_array.index={index}", "engine.batch_array.of=2"]
        super().__init__(load_settings(array.conf, words), quiet=True)
        self._index, self._log, self._meanwhile, self._in_between = index, log, meanwhile, in_between

    @cached_property
    def target(self) -> IndexTarget:
        noted: Any = Noted(Session(self.settings).target, f"child {self._index}", self._log, self._meanwhile)
        return noted  # type: ignore[no-any-return]

    def run_partitions(self, *words: Any, **more: Any) -> list[dict[str, Any]]:
        self._in_between()
        return super().run_partitions(*words, **more)

    def load(self) -> dict[str, Any]:
        return load_corpus(self, None)


def test_a_load_is_finished_once_by_who_sees_the_last_receipt(array: Array) -> None:
    log: list[str] = []
    second = Child(array, 1, log)
    first = Child(array, 0, log, in_between=second.load)
    assert first.load()["complete"] is True
    assert log == ["child 0 begins", "child 1 begins", "child 1 finishes"]


def test_who_may_have_begun_after_the_finish_finishes_again(array: Array) -> None:
    """Its load profile would stay, otherwise: refresh off and no replicas."""
    log: list[str] = []
    second = Child(array, 1, log)
    first = Child(array, 0, log, meanwhile=second.load)
    assert first.load()["complete"] is True
    assert log == ["child 1 begins", "child 1 finishes", "child 0 begins", "child 0 finishes"]


def test_while_one_finishes_the_others_leave(array: Array) -> None:
    log: list[str] = []
    first = Child(array, 0, log)
    plan = first.plan()
    manifest = must_read_manifest(first.store, plan.run_id)
    generation = load_run(first, plan, manifest)
    assert generation is not None
    for mark in array.root.glob("runs/*/loads/*/*/finished/*"):
        mark.unlink()
    with first.alone(plan.run_id, f"finish-{generation.name}-{generation.uuid}"):
        second = Child(array, 1, log).load()
    assert (second["complete"], second["pending"]) == (False, 0)
    third = Child(array, 1, log).load()
    assert third["complete"] is True
    assert log == ["child 0 begins", "child 0 finishes", "child 1 finishes"]


@pytest.mark.opensearch
@pytest.mark.soak
def test_four_children_load_opensearch_at_once(tmp_path: Path, opensearch_url: str) -> None:
    array = Array(tmp_path, index={"target": "opensearch", "url": opensearch_url, "replicas": 0})
    assert array.command("embed", "--engine", "local").code == 0
    results = array.together(4, "load")
    assert not [one for one in results if isinstance(one, BackhaulError)]
    assert {one["rows"] for one in results if one["complete"]} == {480}
    assert len([*array.root.glob("runs/*/loads/*/*/finished/*")]) == 1
    assert array.command("run", "--engine", "local").code == 0  # every row and vector compared, and released
