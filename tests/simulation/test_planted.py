"""Each planted bug is caught, as what it is; which proves that the simulation can fail."""

from __future__ import annotations

import pytest

from tests.simulation.planted import BUGS, Bug
from tests.simulation.planting import catch, mutated

SCHEDULES = 200


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    found = catch(bug, range(SCHEDULES))
    assert found.name, f"{SCHEDULES} schedules ran as if nothing was wrong"
    assert found.name in bug.caught_as, found.seen


def test_without_a_bug_the_same_schedules_break_nothing() -> None:
    same = Bug("nothing", "pipelines.leases", (("_RACES = 20\n", "_RACES = 20\n\n"),), ())
    assert catch(same, range(SCHEDULES)).name == ""


def test_every_bug_is_another_and_there_are_enough() -> None:
    assert len({bug.edits for bug in BUGS}) == len(BUGS) >= 30


def test_a_mutation_whose_text_is_gone_is_an_error() -> None:
    gone = Bug("a bug of yesterday", "pipelines.leases", (("no such text", ""),), ("robbed",))
    with pytest.raises(ValueError, match="stands 0 times"):
        mutated(gone)


def test_a_crash_of_mutated_code_is_no_catch() -> None:
    crash = Bug(
        "a crash", "pipelines.leases", (("            mine = self._next(before)\n", "            mine = 1 // 0\n"),), ()
    )
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        catch(crash, range(3))
