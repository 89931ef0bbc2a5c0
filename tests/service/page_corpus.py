"""Documents for the search page: plain ones about railways, and ones whose every field tries to become HTML."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson

from tests.e2e.corpora import write_conf

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)><svg onload=alert(1)>\"'>&lt;b&gt;"
ASTRAL = "🚂🚃 A wagon behind 𝔖𝔱𝔢𝔞𝔪 e\u0301ngines: 🚃 wagons, more wagons, and an axle. 東京 wagon."
TENANTS = ("north", "south")  # each has a document called "ledger"
FIELDS = {"id": "id", "title": "title", "text": "text", "doc_type": "kind", "date": "day", "uri": "link", "tenant": "owner",
          "metadata": ["lang", "source"]}  # fmt: skip
_SUBJECTS = ("A wagon", "The yard", "Each axle", "A signal", "The points machine", "A night train", "The river bridge")
_VERBS = ("carries", "waits for", "passes", "is weighed beside", "needs", "leaves before")
_OBJECTS = (
    "the steam crane",
    "stone from the quarry",
    "a second engine",
    "the coal stage",
    "two brake vans",
    "its crew",
)


def write_documents(folder: Path, *, plain: int = 36, seed: int = 3) -> Path:
    chance = random.Random(seed)
    rows: list[dict[str, Any]] = [
        {"id": f"doc-{number:02d}", "title": f"{chance.choice(_SUBJECTS)}, part {number}", "kind": ("faq", "guide")[number % 2],
         "text": " ".join(f"{chance.choice(_SUBJECTS)} {chance.choice(_VERBS)} {chance.choice(_OBJECTS)}." for _ in range(12)),
         "day": f"2024-{1 + number % 12:02d}-15", "lang": ("en", "de")[number % 2], "source": f"shelf {number % 4}",
         "link": f"https://example.org/documents/{number}"}
        for number in range(plain)
    ]  # fmt: skip
    attack = {
        "title": ATTACK,
        "text": f"An attacked turntable. {ATTACK}",
        "kind": ATTACK,
        "lang": ATTACK,
        "source": "javascript:alert(1)",
        "day": "2024-02-02",
    }
    links = (
        "javascript:alert(1)",
        " JaVaScRiPt:alert(1)//https://",
        "data:text/html,<script>alert(1)</script>",
        "//x/y",
    )
    rows += [{"id": f"attack-{number}<b id=x>", "link": link, **attack} for number, link in enumerate(links)]
    rows.append({"id": "astral", "title": "Ⓐ 🚂 astral", "text": ASTRAL, "kind": "note", "lang": "en", "source": "", "day": "2025-01-01",
                 "link": "s3://bucket/astral.txt"})  # fmt: skip
    rows += [{"id": "ledger", "owner": tenant, "title": f"Ledger of the {tenant}", "text": f"Freight accounts of the {tenant}.",
              "kind": "note", "lang": "en", "source": "", "day": "2025-02-01", "link": ""} for tenant in TENANTS]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_bytes(b"".join(orjson.dumps({"owner": "yard", **row}) + b"\n" for row in rows))
    return folder


def page_conf(folder: Path, **sections: Any) -> Path:
    """A run description of that corpus: LanceDB and the hash embedder, several chunks a document."""
    source = folder / "source"
    if not source.exists():
        write_documents(source)
    values: dict[str, Any] = {
        "root": f"file://{folder}/root", "source": f"file://{source}", "fields": FIELDS, "corpus": "railways",
        "split": {"method": "sentences", "max_tokens": 48, "overlap_tokens": 0}, "engine": {"workers": 0},
    }  # fmt: skip
    return write_conf(folder / "run.yaml", **{**values, **sections})
