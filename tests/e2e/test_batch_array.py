"""Children of an array embed one run together: shared, killed, started again, alone, poisoned."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from pipelines.errors import BackhaulError
from pipelines.leased import kept
from pipelines.leases import Lease, Leases, LeaseSettings
from pipelines.owner import Owner, this_owner
from tests.e2e.array import Array


@pytest.fixture
def array(tmp_path: Path) -> Array:
    return Array(tmp_path)


@pytest.mark.parametrize(("of", "planned"), [(2, True), (4, False)])
def test_children_share_a_run_and_do_nothing_twice(array: Array, of: int, planned: bool) -> None:
    """Without a plan each of them makes it, which is the same one."""
    if planned:
        assert array.command("plan").code == 0
    results = array.together(of)
    assert not [one for one in results if isinstance(one, BackhaulError)]
    begun, distinct = array.counts()
    assert begun == distinct == 32
    assert array.digests() == array.quiet()
    assert len([*array.root.glob("corpora/papers/runs/*.json")]) == 1
    complete = [one for one in results if one["complete"]]
    assert {one["rows"] for one in complete} == {480}
    assert all(one["pending"] == 0 for one in results if one not in complete)  # they left the manifest to another


def test_a_child_alone_does_everything(array: Array) -> None:
    outcome = array.command("embed", "--index", "2", "--of", "4")
    assert outcome.code == 0
    assert array.digests() == array.quiet()
    assert "`backhaul plan CONF` before the array saves that" in outcome.err


def test_the_others_finish_what_a_killed_child_had(array: Array) -> None:
    array.command("plan")
    array.kill_at(6, array.process(0, 2, part_s=0.05))
    assert array.embed(1, 2)["complete"]  # type: ignore[index]
    begun, distinct = array.counts()
    assert begun - distinct <= 2
    assert array.digests() == array.quiet()


def test_children_that_were_all_killed_go_on_when_they_are_started_again(array: Array) -> None:
    array.command("plan")
    array.kill_at(10, *(array.process(index, 2, part_s=0.05) for index in range(2)))
    assert any(one["complete"] for one in array.together(2))
    begun, distinct = array.counts()
    assert begun - distinct <= 2 * 2
    assert array.digests() == array.quiet()


def test_a_child_leaves_when_live_ones_have_the_rest_and_says_so(array: Array) -> None:
    array.command("plan")
    with Held(array, "embed", array_ids(array)[3]):
        outcome = array.command("embed", "--index", "0", "--of", "2")
    assert outcome.code == 0
    said = "7 of 8 partitions are embedded; 1 left to the array's other children"
    assert f"{said}\nnext: backhaul status {array.conf}" in outcome.out
    assert array.command("embed", "--index", "1", "--of", "2", "--json").digests == array.quiet()


# The manifest


def test_one_of_them_makes_the_manifest_while_the_others_leave(array: Array) -> None:
    array.embed(0, 1)
    array.manifest().unlink()
    with Held(array, "drivers", "manifest"):
        left = array.command("embed", "--index", "0", "--of", "2", "--json")
        assert (left.code, left.json["complete"], left.json["pending"]) == (0, False, 0)
        assert "another process makes the manifest" in array.command("embed", "--index", "1", "--of", "2").out
        assert not [*array.root.glob("runs/*/manifest.json")]
    assert array.command("embed", "--index", "1", "--of", "2", "--json").digests == array.quiet()


def test_a_manifest_whose_maker_died_is_made_by_the_next(array: Array) -> None:
    array.embed(0, 1)
    array.manifest().unlink()
    held = Held(array, "drivers", "manifest", machine="elsewhere")
    assert array.embed(0, 2)["complete"] is False  # type: ignore[index]
    time.sleep(max(0, held.lease.epoch.expires_ms / 1000 + 0.3 - time.time()))
    assert array.embed(1, 2)["complete"] is True  # type: ignore[index]
    assert array.digests() == array.quiet()


def test_a_single_driver_waits_for_the_manifest_that_another_makes(array: Array) -> None:
    array.embed(0, 1)
    manifest = array.manifest()
    data = manifest.read_bytes()
    manifest.unlink()
    with Held(array, "drivers", "manifest"):
        threading.Timer(0.3, manifest.write_bytes, [data]).start()
        outcome = array.command("embed", "--engine", "local")
    assert outcome.code == 0
    assert "another process makes the manifest; waiting for it" in outcome.err


# Poison


def test_a_partition_that_kills_child_after_child_is_given_up_named_and_tried_again_on_order(array: Array) -> None:
    array.command("plan")
    poison = array_ids(array)[1]
    for _ in range(3):  # as if three children of other machines had died on it
        Held(array, "embed", poison, machine="elsewhere", settings=LeaseSettings(ttl_s=0.001, max_skew_s=0))
        time.sleep(0.01)
    outcome = array.command("embed", "--index", "0", "--of", "2", "--json")
    assert outcome.code == 1
    assert f"{poison}: worker died:" in outcome.json["message"]
    assert "1 of 8 partitions failed, the others are done" in outcome.json["message"]
    (group,) = array.command("failures", "--json").json["partitions"]
    assert (group["stage"], group["cause"], group["count"]) == ("embed", "worker died", 1)
    spared = array.command("embed", "--index", "0", "--of", "2", "--json")
    assert spared.code == 0
    found = {name: spared.json[name] for name in ("complete", "partitions", "pending", "failed")}
    assert found == {"complete": False, "partitions": 8, "pending": 1, "failed": 1}
    assert array.embed(1, 2).exit_code == 1  # type: ignore[union-attr]  # its own: it says so again, and begins nothing
    assert not [*array.root.glob(f"runs/*/attempts/embed/{poison}/*")]
    assert array.command("retry", "--clear-only").code == 0
    assert array.command("embed", "--index", "0", "--of", "2", "--json").digests == array.quiet()


# Correctness does not rest on leases.


def test_leases_that_end_at_once_cost_work_and_change_nothing(tmp_path: Path) -> None:
    array = Array(tmp_path, lease={"ttl_s": 0.01, "max_skew_s": 0})
    array.command("plan")
    for _ in range(20):
        if any(not isinstance(one, BackhaulError) and one["complete"] for one in array.together(4)):
            break
    assert array.digests() == array.quiet()


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_clock_that_is_an_hour_wrong_holds_nobody_up(array: Array, ahead_s: int) -> None:
    """A dead child of another machine left leases dated by its clock."""
    array.command("plan")
    for one in array_ids(array)[:3]:
        Held(array, "embed", one, machine="elsewhere")
    for lease in array.root.glob("runs/*/leases/embed/*/*.json"):
        epoch = orjson.loads(lease.read_bytes())
        for name in ("taken_ms", "renewed_ms", "expires_ms"):
            epoch[name] += ahead_s * 1000
        lease.write_bytes(orjson.dumps(epoch))
    assert array.command("embed", "--index", "0", "--of", "2", "--json").digests == array.quiet()


# What an array is not for


def test_a_child_that_does_not_know_which_it_is_does_nothing(array: Array) -> None:
    for verb in ("embed", "load", "run"):
        outcome = array.command(verb)
        assert outcome.code == 2
        assert "AWS_BATCH_JOB_ARRAY_INDEX" in outcome.err
        assert "--index 0 --of 4" in outcome.err
    assert not [*array.root.glob("*")]


def test_what_is_done_once_is_refused_to_children_with_the_command_to_type(
    array: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = array.command("run", "--engine", "local", "--json")
    assert done.code == 0, done.err
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "0")
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_SIZE", "2")
    for verb, *words in (["run"], ["verify"], ["release", "--yes"]):
        outcome = array.command(verb, *words)
        assert outcome.code == 2
        command = f"backhaul {verb} {array.conf} --set engine.name=local"
        assert f"{verb} is done once, after them: `{command}`" in outcome.err


def array_ids(array: Array) -> list[str]:
    """Of the planned partitions, by number."""
    return list(array.session(0, 1).plan().partitions.ids)


class Held:
    """Somebody else's lease: of a process that lives for as long as the block, or of one of another ``machine`` that
    was never heard of again."""

    def __init__(self, array: Array, stage: str, what: str, *, machine: str | None = None,
                 settings: LeaseSettings | None = None) -> None:  # fmt: skip
        session, us = array.session(0, 1), this_owner(uuid4().hex)
        owner = us if machine is None else Owner(us.invocation, machine, machine, 1, 0.0)
        (run,) = array.root.glob("runs/*")
        leases = Leases(
            session.store, f"runs/{run.name}/leases/{stage}", owner, settings or session.settings.engine.lease
        )
        self.lease: Lease = leases.take(what)
        self._kept = kept(self.lease, 0.1)

    def __enter__(self) -> Held:
        self._kept.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.__exit__(None, None, None)
        self.lease.end("interrupted")
