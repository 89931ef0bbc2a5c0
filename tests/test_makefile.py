"""What the Makefile, the requirements and CONTRIBUTING promise, as far as it can be read without installing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def make(*arguments: str) -> str:
    done = subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def test_help_is_the_default_and_lists_every_verb_but_what_they_share() -> None:
    verbs = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert verbs is not None
    listed = re.findall(r"^  make ([a-z-]+) +\S", make(), re.MULTILINE)
    assert sorted(listed) == sorted(set(verbs[1].split()) - {"opensearch", "chromium"})


def test_test_checks_before_it_tests() -> None:
    commands = [command for command in make("-n", "test").splitlines() if command.startswith(".venv/bin/")]
    tools = [Path(command.split()[0]).name for command in commands]
    assert [tool for tool in tools if tool not in {"uv", "python"}] == [
        "ruff",
        "ruff",
        "mypy",
        "lint-imports",
        "pytest",
    ]


def test_the_models_and_every_requirement_are_pinned_with_hashes() -> None:
    for name in ("base", "all", "models"):
        entries = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
        assert [entry for entry in entries if not re.match(r"[\w.\[\]-]+==\S+.*--hash=sha256:", entry)] == []


def test_the_base_install_is_part_of_the_full_one() -> None:
    pinned = {
        name: set(re.findall(r"^([\w.-]+==[\w.]+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))
        for name in ("base", "all")
    }
    assert pinned["base"] <= pinned["all"]
    assert not any(pin.startswith(("torch==", "scipy==")) for pin in pinned["base"])


def test_every_file_that_contributing_names_is_there() -> None:
    named = re.findall(r"`([\w/.-]+/[\w.-]+\.(?:py|txt|in))`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
