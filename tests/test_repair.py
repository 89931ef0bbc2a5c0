"""Repair: what is missing or altered is loaded, what does not belong is deleted, what is right is not touched."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.session import PartitionsFailed
from jobs.verbs.load import lease_of_finishing
from jobs.verbs.repair import repair_generation
from jobs.verbs.verify import must_pass, verify_run
from pipelines.errors import GateRefused, TargetError
from pipelines.release import release
from pipelines.targets.lancedb_import import import_lancedb
from pipelines.targets.target import Generation
from tests.e2e.command import COMMAND, backhaul_here, environment
from tests.e2e.corpora import write_three_partitions
from tests.test_load import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def _table(run: Run, generation: Generation) -> Any:  # Any: lancedb is untyped
    return import_lancedb().connect(f"{run.settings.root.removeprefix('file://')}/lancedb").open_table(generation.name)


def _verify(run: Run, generation: Generation) -> list[str]:
    """The gates that refuse."""
    verification = verify_run(run.session, run.plan, run.manifest, generation)
    return [gate.name for gate in verification.gates if not gate.passed]


def _repair(run: Run, generation: Generation) -> dict[str, Any]:
    return repair_generation(run.session, run.plan, run.manifest, generation)


def _ids(run: Run, generation: Generation, partition: int) -> list[str]:
    pages = run.session.target.scan(generation.name, run.plan.partitions[partition].id)
    return [key for page in pages for key in page.keys]


def _insert(table: Any, at: int, **changed: Any) -> None:
    """Once more the row ``at``, changed."""
    row = table.to_arrow().slice(at, 1).to_pylist()[0] | changed
    table.add([row])


CORRUPT: dict[str, tuple[Callable[[Any, list[str]], object], set[str]]] = {
    "rows missing": (lambda table, ids: table.delete(f"id IN ('{ids[0]}', '{ids[9]}')"), {"ids"}),
    "a row twice": (lambda table, ids: _insert(table, 3), {"ids"}),
    "a row's id in an unknown partition as well": (lambda table, ids: _insert(table, 3, partition="nobody"), {"ids"}),
    "a stranger of no partition": (lambda table, ids: _insert(table, 3, id="x", partition=""), {"ids"}),
    "a stranger with a row's number": (lambda table, ids: _insert(table, 3, id="x"), {"ids"}),
    "a tenant altered": (lambda table, ids: table.update(f"id = '{ids[4]}'", values={"tenant": "evil"}), {"content"}),
    "a vector of zeros": (lambda table, ids: table.update(f"id = '{ids[4]}'", values={"vector": [0.0] * 16}),
                          {"vectors", "sound vectors"}),
    "a vector of infinity": (lambda table, ids: _insert(table, 3, id="x", vector=[float("inf")] * 16), {"ids", "sound vectors"}),
    "everything gone": (lambda table, ids: table.delete("true"), {"ids"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", CORRUPT)
def test_each_corruption_of_a_table_is_refused_and_mended(run: Run, kind: str) -> None:
    generation = run.load()
    corrupt, gates = CORRUPT[kind]
    before = _table(run, generation).to_arrow().sort_by("id")
    corrupt(_table(run, generation), _ids(run, generation, 1))
    assert set(_verify(run, generation)) == gates
    result = _repair(run, generation)
    assert result["changed"]
    assert {each["name"] for each in result["found"]} == gates
    assert _table(run, generation).to_arrow().sort_by("id").equals(before)
    assert _verify(run, generation) == []


def test_a_row_moved_into_another_partition_is_moved_back(run: Run) -> None:
    generation = run.load()
    moved = _ids(run, generation, 0)[5]
    _table(run, generation).update(f"id = '{moved}'", values={"partition": run.plan.partitions[2].id})
    result = _repair(run, generation)
    assert (result["deleted"], result["loaded"]) == (1, 1)
    assert _verify(run, generation) == []


def test_where_nothing_is_wrong_nothing_is_changed_and_the_proof_holds(run: Run) -> None:
    generation = run.load()
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))
    version = _table(run, generation).version
    result = _repair(run, generation)
    assert (result["changed"], result["deleted"], result["loaded"]) == (False, 0, 0)
    assert _table(run, generation).version == version
    assert release(run.session.store, run.session.target, run.session.log, "papers", generation).changed


def test_a_repaired_generation_needs_a_verification_anew(run: Run) -> None:
    generation = run.load()
    must_pass(verify_run(run.session, run.plan, run.manifest, generation))
    run.session.target.delete(generation.name, _ids(run, generation, 0)[:1])
    _repair(run, generation)
    with pytest.raises(GateRefused, match="loaded again after its verification"):
        release(run.session.store, run.session.target, run.session.log, "papers", generation)


def test_a_repair_that_is_killed_leaves_no_proof_and_the_same_command_ends_it(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("run", conf).code == 0
    generation = backhaul_here("list", conf, "--json").json["live"]
    folder = tmp_path / "root" / "lancedb"
    table = import_lancedb().connect(str(folder)).open_table(generation)
    before = table.to_arrow().sort_by("id")
    _insert(table, 40, id="x")
    table.delete("number > 20 AND id != 'x'")
    versions = folder / f"{generation}.lance" / "_versions"
    there = set(versions.iterdir())
    repair = subprocess.Popen([*COMMAND, "repair", str(conf), "--yes"], env=environment(), stderr=subprocess.DEVNULL)
    while repair.poll() is None and set(versions.iterdir()) <= there:  # nothing was written yet
        time.sleep(0.002)
    repair.kill()
    assert repair.wait(60) == -signal.SIGKILL
    refused = backhaul_here("release", conf, "--yes")
    assert (refused.code, "loaded again after its verification" in refused.err) == (3, True), refused.err
    repaired = backhaul_here("repair", conf, "--yes")
    assert repaired.code == 0, repaired.err
    assert backhaul_here("verify", conf).code == 0
    assert import_lancedb().connect(str(folder)).open_table(generation).to_arrow().sort_by("id").equals(before)


def test_two_repairs_at_once_do_not_collide(run: Run, tmp_path: Path) -> None:
    generation = run.load()
    run.session.target.delete(generation.name, _ids(run, generation, 0)[:7])
    _insert(_table(run, generation), 40, id="x")
    other = Run(tmp_path)
    with run.session.alone(run.plan.run_id, lease_of_finishing(generation)):
        results: list[dict[str, Any]] = []
        second = threading.Thread(target=lambda: results.append(_repair(other, generation)))
        second.start()
        second.join(2)
        assert results == []
        assert _table(run, generation).count_rows() == 84
    second.join(60)
    assert [result["changed"] for result in results] == [True]
    assert _verify(run, generation) == []


def test_a_load_that_lost_rows_before_it_was_finished_is_finished_by_a_repair(run: Run) -> None:
    generation = run.create()
    for partition in run.plan.partitions:
        run.work(generation)(partition)
    run.session.target.delete(generation.name, _ids(run, generation, 0)[:2])
    with pytest.raises(TargetError, match="backhaul repair"):
        run.load()
    assert _repair(run, generation)["loaded"] == 2
    assert run.finished(generation) == 1
    assert _verify(run, generation) == []


def test_what_was_never_loaded_is_not_a_repairs_to_load(run: Run) -> None:
    generation = run.load(only={run.plan.partitions[0].id})
    with pytest.raises(GateRefused, match=r"2 of 3 partitions of .* were never loaded; `backhaul load CONF`"):
        _repair(run, generation)


def test_a_damaged_part_fails_its_partition_and_nothing_is_deleted(run: Run) -> None:
    generation = run.load()
    run.session.target.delete(generation.name, _ids(run, generation, 0)[:2])
    damaged = sorted((Path(run.settings.root.removeprefix("file://")) / "runs").glob("*/parts/*/000001-*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(PartitionsFailed, match="is damaged"):
        _repair(run, generation)
    assert _table(run, generation).count_rows() == 88


def test_another_mapping_than_the_settings_ask_for_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    generation = run.load()
    other = Run(tmp_path, index={"m": 8})
    assert _verify(other, generation) == ["mapping"]
    with pytest.raises(
        GateRefused, match=r"cannot be repaired, nothing was changed:\n  mapping: .*index\.m: 8 here, 16"
    ):
        _repair(other, generation)


def test_the_command_says_what_it_did_and_what_to_type_next(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("run", conf).code == 0
    generation = backhaul_here("list", conf, "--json").json["live"]
    table = import_lancedb().connect(f"{tmp_path}/root/lancedb").open_table(generation)
    table.delete("number = 3")
    refused = backhaul_here("verify", conf)
    assert refused.code == 3
    command = f"backhaul repair {conf} --generation {generation} --yes"
    assert command in refused.err
    assert "3 missing" in refused.err
    assert command in backhaul_here("verify", conf, "--json").json["message"]
    assert backhaul_here(*command.split()[1:-1]).code == 2  # nobody is there to say yes
    repaired = backhaul_here(*command.split()[1:])
    assert repaired.code == 0, repaired.err
    assert "deleted 0 rows, loaded 3" in repaired.out
    assert repaired.out.rstrip().endswith(f"next: backhaul verify {conf} --generation {generation}")
    assert backhaul_here("verify", conf, "--generation", generation).code == 0
