"""Mutants are what they are said to be; and in the long form, the tests notice nearly all of those of the security."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.e2e.command import PROJECT, environment
from tests.service.mutants import mutants_of
from tests.service.mutations import TESTS

SOURCE = '''"""Text."""
LIMIT: int = 3

def f(a: "str", b=True):
    """Text."""
    if a == "x" and not b:
        raise ValueError("wrong")
    g(a, key=a + 1)
    return [each for each in a if each < LIMIT] or 7
'''


def planted(number: int) -> str:
    tree = ast.parse(SOURCE)
    mutants_of(tree)[number].plant()
    return ast.unparse(tree)


def test_every_mutant_differs_from_the_source_and_from_the_others_in_one_line() -> None:
    plain = ast.unparse(ast.parse(SOURCE))
    count = len(mutants_of(ast.parse(SOURCE)))
    changed = [planted(number) for number in range(count)]
    assert len({plain, *changed}) == count + 1
    for each in changed:
        assert sum(line not in plain.splitlines() for line in each.splitlines()) <= 1


def test_mutants_are_those_that_people_make() -> None:
    told = {mutant.what for mutant in mutants_of(ast.parse(SOURCE))}
    assert told >= {"3 becomes 4", "True becomes False", "Eq becomes NotEq", "And becomes Or", "only `not b`", "not is lost", "'x' becomes ''",
                    "the condition is True", "the condition is False", "without `raise ValueError('wrong')`", "'wrong' becomes ''",
                    "without the argument key", "Add becomes Sub", "without `g(a, key=a + 1)`", "Lt becomes LtE", "Lt becomes GtE",
                    "without `if each < LIMIT`", "returns None"}  # fmt: skip
    assert not any("Text" in what or "str" in what for what in told)


@pytest.mark.parametrize("module", TESTS)
def test_every_module_of_the_security_has_mutants_and_tests(module: str) -> None:
    assert len(mutants_of(ast.parse((PROJECT / "jobs" / "service" / f"{module}.py").read_text()))) > 20
    assert all((PROJECT / "tests" / "service" / f"{name}.py").exists() for name in TESTS[module])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_of_a_hundred_mutants_of_the_security_ninety_five_are_noticed() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.service.mutations"], cwd=PROJECT, env=environment(), capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
