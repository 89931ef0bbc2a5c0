"""The card's page: all that it shows is escaped, nothing comes from outside, and it can be made of any run."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.card import make_card, page
from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_three_partitions

WICKED = [
    "<script>alert(1)</script>",
    "a\"onload='x()' & $\\frac{1}{0}$",
    "]]></svg><b>",
    "$^_{%$",
    "\u5de5\u5177 \U0001f600",
]


class Outline(HTMLParser):
    """Tags in balance, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def wicked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A card whose types and sources come from somebody who means it ill."""
    folder = tmp_path_factory.mktemp("wicked")
    (folder / "source").mkdir()
    rows = [orjson.dumps({"id": f"d{i}-{n}", "kind": kind, "text": "word " * (20 + 600 * (n % 2))})
            for i, kind in enumerate(WICKED) for n in range(4)]  # fmt: skip
    rows.append(orjson.dumps({"id": "<i>", "text": "", "kind": WICKED[0]}))
    (folder / "source" / "a<img src=x onerror=alert(1)>.jsonl").write_bytes(b"\n".join(rows))
    conf = write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{folder}/source",
                      engine={"workers": 0}, limits={"max_reject_share": 0.5})  # fmt: skip
    done = backhaul_here("embed", conf)
    assert done.code == 0, done.err
    session = Session(load_settings(conf), quiet=True)
    card = make_card(session, session.plan())
    return card, page(card)


def test_what_comes_from_outside_is_text_and_nothing_else(wicked: tuple[dict[str, Any], str]) -> None:
    _, made = wicked
    outline = Outline(made)
    assert outline.open == []
    assert {tag for tag, _ in outline.tags} & {"script", "img", "link", "iframe", "object"} == set()
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    for name in WICKED[:3]:
        assert name not in made
    assert "&lt;script&gt;alert(1)" in made
    assert "&lt;img src=x" in made


def test_the_page_asks_for_nothing_from_outside(wicked: tuple[dict[str, Any], str]) -> None:
    _, made = wicked
    outline = Outline(made)
    links = [value for _, attributes in outline.tags for name, value in attributes.items()
             if name in ("src", "href", "xlink:href", "action", "data")]  # fmt: skip
    assert all(value and value.startswith("#") for value in links)
    assert "@import" not in made
    assert not re.findall(r"url\((?!#)", made)
    assert sorted(set(outline.ids)) == sorted(outline.ids)


def test_every_plot_is_there_in_colours_of_the_page(wicked: tuple[dict[str, Any], str]) -> None:
    _, made = wicked
    plots = re.findall(r"<svg.*?</svg>", made, flags=re.DOTALL)
    assert len(plots) == 4
    for plot in plots:
        colours = set(re.findall(r"#[0-9a-f]{6}\b", plot))
        assert colours == set(), "a colour that light or dark would not fit"
    wanted = set(re.findall(r"var\(--(\w+)\)", "".join(plots)))
    assert all(f"--{name}:" in made for name in wanted)
    assert "limit 512" in plots[1]
    assert "<text" in plots[0], "text is text, not outlines"


def test_figures_of_speed_and_price_are_on_the_page(wicked: tuple[dict[str, Any], str]) -> None:
    card, made = wicked
    took = card["embedding"]
    assert took["tokens"] == card["done"]["ledger"]["embedded_tokens"] > 0
    assert f"{took['tokens_per_second']:,.0f}" in made
    assert f"{took['tokens']:,} tokens" in made
    assert took["seconds"]["computing"] > 0
    assert took["usd_per_million_tokens"] == pytest.approx(
        sum(took["seconds"].values()) / 3600 / took["tokens"] * 1e6, rel=0.01
    )
    (price,) = re.findall(r"A million tokens took \$([\d.]+):", made)
    assert float(price) == pytest.approx(took["usd_per_million_tokens"], rel=0.1)


def test_a_run_that_is_only_planned_has_a_card_too(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    session = Session(load_settings(conf), quiet=True)
    card = make_card(session, session.plan())
    assert (card["done"], card["embedding"]) == (None, None)
    assert "not complete yet" in page(card)


def test_a_run_whose_timings_are_lost_or_that_lost_nothing_says_so(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("embed", conf).code == 0
    status = backhaul_here("status", conf)
    assert "tokens/s a worker; its embedder waited for input" in status.out
    for record in (tmp_path / "root").glob("runs/*/attempts/timings/*/*"):
        record.unlink()
    session = Session(load_settings(conf), quiet=True)
    card = make_card(session, session.plan())
    made = page(card)
    assert card["embedding"] is None
    assert "Nothing was lost." in made
    assert "Speed and price" not in made
    assert "tokens/s" not in backhaul_here("status", conf).out


def test_the_card_of_an_older_ledger_can_be_made(wicked: tuple[dict[str, Any], str]) -> None:
    from pipelines.ledger import total

    old = {"documents": 2, "chunks": 3, "tokens": 500, "truncated_chunks": 1, "truncated_tokens": 44, "empty": 0,
           "zero_vectors": 0, "nan_vectors": 0, "truncated_by_source": {"old.jsonl": 44}}  # fmt: skip
    card, _ = wicked
    made = page(card | {"done": card["done"] | {"ledger": total([old])}, "embedding": None})
    assert "old.jsonl" in made
    assert "all others" in made


def test_matplotlib_is_imported_for_a_card_and_for_nothing_else() -> None:
    program = (
        "import sys, jobs.main, jobs.commands, jobs.verbs.run, jobs.verbs.status; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False\n"
