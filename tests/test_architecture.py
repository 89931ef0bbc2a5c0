"""ARCHITECTURE.md names every source file, and no file that is gone."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROJECT = Path(__file__).parent.parent
FOLDERS = ("pipelines", "jobs", "cluster", "conf", "notebooks")


def _documented() -> set[str]:
    """Paths of the tree's first block: a folder's line ends in a slash, and indentation nests."""
    tree = (PROJECT / "ARCHITECTURE.md").read_text().split("```")[1]
    found, folders = set(), {0: ""}
    for line in filter(str.strip, tree.splitlines()):
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        path = folders[depth] + name
        if name.endswith("/"):
            folders[depth + 1] = path
        else:
            found.add(path)
    return found


def _tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS], cwd=PROJECT,
                            capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    return {name for name in listed if not name.endswith(("__init__.py", "py.typed")) and (PROJECT / name).exists()}


def test_the_tree_names_every_file() -> None:
    assert sorted(_tracked() - _documented()) == []


def test_the_tree_names_no_file_that_is_gone() -> None:
    assert sorted(name for name in _documented() if not (PROJECT / name).exists()) == []
