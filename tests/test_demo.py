"""The demo's corpus, from small packages on disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.demo import (
    CONF,
    MAX_CHARACTERS,
    PACKAGES,
    Entry,
    choose,
    corpus_folder,
    installed_packages,
    read_entries,
    write_corpus,
)
from jobs.main import run_command
from jobs.settings import load_settings

LONG = "Says what it does in so many words that it is worth finding again, and then says a few words more."


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    (folder / "_inner").mkdir(parents=True)
    (folder / "__init__.py").write_text(f'"""Acme. {LONG}"""\nraise RuntimeError("imported")\n')
    (folder / "_inner" / "_rockets.py").write_text(
        "class Rocket:\n"
        f'    """A rocket. {LONG}"""\n'
        "    def launch(self, pad, *, when, wind, crew, fuel):\n"
        f'        """Launch it. {LONG}"""\n'
        "    def _abort(self):\n"
        f'        """Private. {LONG}"""\n'
        "def park():\n"
        '    """Too short."""\n'
    )
    (folder / "broken.py").write_text("def (:\n")
    return folder


def entry(name: str) -> Entry:
    return Entry(name, name, LONG, "module", name.split(".")[0], "1", "x.py")


def test_docstrings_are_read_without_importing_and_named_as_users_write_them(package: Path) -> None:
    entries = read_entries("acme", package, "2.1")
    assert [(e.id, e.doc_type) for e in entries] == [
        ("acme", "module"), ("acme.Rocket", "class"), ("acme.Rocket.launch", "function"),
    ]  # fmt: skip
    assert entries[2].title == "acme.Rocket.launch(pad, when, wind, crew, …)"
    assert entries[2].source == "acme/_inner/_rockets.py"
    assert "acme" not in sys.modules


def test_a_long_docstring_ends_with_a_line_within_the_limit(package: Path) -> None:
    text = "\n".join([LONG] * 50)
    (package / "novel.py").write_text(f'"""{text}"""\n')
    novel = next(e for e in read_entries("acme", package, "1") if e.id == "acme.novel")
    assert MAX_CHARACTERS // 2 < len(novel.text) <= MAX_CHARACTERS
    assert novel.text.endswith(LONG)


def test_packages_give_equally_many_and_large_ones_take_what_small_ones_leave() -> None:
    entries = {"small": [entry("small")], "wide": [entry(f"wide.{n}") for n in range(9)],
               "vast": [entry(f"vast.{n}") for n in range(90)]}  # fmt: skip
    chosen = choose(entries, 13)
    assert {name: len(some) for name, some in chosen.items()} == {"small": 1, "wide": 6, "vast": 6}
    assert chosen["vast"] == entries["vast"][:6]


def test_an_equal_file_is_left_untouched_and_a_changed_one_rewritten(tmp_path: Path) -> None:
    assert write_corpus(tmp_path, {"a": [entry("a")], "b": [entry("b")]}) == 2
    before = (tmp_path / "a" / "a.jsonl").stat().st_mtime_ns
    assert write_corpus(tmp_path, {"a": [entry("a")], "b": [entry("b"), entry("b.c")]}) == 1
    assert (tmp_path / "a" / "a.jsonl").stat().st_mtime_ns == before
    rows = [json.loads(line) for line in (tmp_path / "b" / "b.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["b", "b.c"]


def test_the_file_of_a_package_that_is_gone_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write_corpus(tmp_path, {"a": [entry("a")], "b": [entry("b")]})
    (tmp_path / "b" / "notes.txt").write_text("mine")
    assert write_corpus(tmp_path, {"a": [entry("a")]}) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.jsonl", "notes.txt"]


def test_the_corpus_lies_in_the_folder_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKHAUL_DEMO", str(tmp_path))
    assert corpus_folder() == tmp_path / "corpus"
    assert load_settings(CONF).root == f"file://{tmp_path}/state"
    monkeypatch.delenv("BACKHAUL_DEMO")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert corpus_folder() == tmp_path / "cache" / "backhaul" / "demo" / "corpus"


def test_every_package_of_the_corpus_comes_with_the_base_install() -> None:
    pinned = (Path(__file__).parent.parent / "requirements" / "base.txt").read_text()
    assert {package for package, _, _ in installed_packages()} == set(PACKAGES)
    assert [name for name in PACKAGES.values() if f"\n{name}==" not in f"\n{pinned}"] == []


def test_the_demo_settings_make_a_corpus_searchable_and_a_second_run_embeds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKHAUL_DEMO", str(tmp_path))
    texts = {"tea": "Boil water, pour it over the leaves and wait.", "nails": "Drive nails into a board with a hammer."}
    corpus = {name: [Entry(name, name, text, "module", name, "1", "x.py")] for name, text in texts.items()}
    write_corpus(tmp_path / "corpus", corpus)

    def backhaul(*arguments: str) -> dict[str, Any]:
        assert run_command([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    first, second = backhaul("run", str(CONF)), backhaul("run", str(CONF))
    hits = backhaul("query", str(CONF), "how do I make a hot drink?", "--mode", "hybrid", "-k", "1")["hits"]
    assert first["content_digest"] == second["content_digest"]
    assert (first["partitions_embedded"], second["partitions_embedded"]) == (2, 0)
    assert hits[0]["document_id"] == "tea"
