"""The gates as functions of what was found, and what is said of those that refuse."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.verbs.verify import must_pass
from pipelines.errors import GateRefused
from pipelines.manifest import Entry, Manifest
from pipelines.parts import Part
from pipelines.targets.target import Generation, Health, Meta
from pipelines.verify.gates import ANEW, Gate, gate_of_replicas, gates_of_rows
from pipelines.verify.record import make_verification

PART = Part(0, "s" * 64, 10, 10, 20, 100, "c", "v", "m")
MANIFEST = Manifest("r", (Entry("one", "r", (PART,)), Entry("two", "r", (PART,))), {}, "c", "b", True, {})


def _outcome(partition: str, rows: int = 10, **problems: int) -> dict[str, Any]:
    examples = [f"{kind}: x{n} (row {n})" for kind, count in problems.items() for n in range(min(3, count))]
    return {"partition": partition, "rows": rows, "dead": 0, "problems": problems, "examples": examples}


def _gates(outcomes: list[dict[str, Any]], stored: dict[str, int]) -> dict[str, Gate]:
    return {gate.name: gate for gate in gates_of_rows(MANIFEST, outcomes, stored)}


def test_where_nothing_differs_every_gate_of_rows_passes() -> None:
    assert all(gate.passed for gate in _gates([_outcome("one"), _outcome("two")], {"one": 10, "two": 10}).values())


@pytest.mark.parametrize(("name", "words"), [("nobody", "7 rows of partition 'nobody', which is unknown"),
                                             ("", "7 rows of no partition")])  # fmt: skip
def test_rows_of_an_unknown_partition_or_none_are_strange_and_named(name: str, words: str) -> None:
    ids = _gates([_outcome("one"), _outcome("two")], {"one": 10, "two": 10, name: 7})["ids"]
    assert (ids.passed, ids.found, ids.detail) == (False, "0 missing, 7 strange", words)


def test_rows_that_were_counted_and_not_scanned_are_no_proof() -> None:
    ids = _gates([_outcome("one"), _outcome("two")], {"one": 10, "two": 12})["ids"]
    assert not ids.passed
    assert "partition two was counted with 2 rows more or less than scanned" in ids.detail


def test_problems_are_added_up_over_partitions_and_the_first_are_named() -> None:
    gates = _gates([_outcome("one", altered=2), _outcome("two", altered=5, vector=1)], {"one": 10, "two": 10})
    assert gates["content"].found == "7 rows altered"
    assert gates["content"].detail.count("altered: ") == 3
    assert gates["vectors"].detail == "vector: x0 (row 0) in partition two"
    assert gates["ids"].passed


def test_a_refusal_names_each_gate_and_what_repair_does_not_mend_first() -> None:
    lost, thin = (
        _gates([_outcome("one", missing=1), _outcome("two")], {"one": 10, "two": 10})["ids"],
        Health(False, "yellow"),
    )
    gates = [
        lost,
        gate_of_replicas(thin),
        Gate("space", False, "differs", "equal", "pooling", ANEW),
        Gate("ok", True, "", ""),
    ]
    with pytest.raises(GateRefused) as refused:
        must_pass(make_verification(Generation("g-1", "u", 10, Meta("c", "r", {}, ())), 1, gates))
    _, *lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["  ids", "  replicas", "  space", "space", "ids", "replicas"]
    assert "backhaul repair CONF --generation g-1 --yes" in lines[4]
