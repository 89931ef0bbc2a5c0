"""A loaded generation with two ways to it: Backhaul's command line, and the node's own HTTP behind Backhaul's back."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.command import Outcome, backhaul_here


@dataclass(frozen=True)
class Row:
    """A row as the node has it. Whatever writes it, equal or not, gives it another ``write``."""

    source: dict[str, Any]
    write: int


@dataclass(frozen=True)
class Indexed:
    """``settings`` are those of its own, laid over ``conf``."""

    conf: Path
    node: str
    name: str
    settings: tuple[str, ...] = ()

    def command(self, verb: str, *words: str, settings: tuple[str, ...] | None = None) -> Outcome:
        sets = [word for text in (self.settings if settings is None else settings) for word in ("--set", text)]
        return backhaul_here(verb, self.conf, "--generation", self.name, *words, *sets)

    def rows(self) -> dict[str, Row]:
        """Every row by the node's id, whatever partition it names."""
        body = {"size": 10_000, "query": {"match_all": {}}, "seq_no_primary_term": True}
        hits = self.send("POST", "_search", body)["hits"]["hits"]
        assert len(hits) < 10_000
        return {hit["_id"]: Row(hit["_source"], hit["_seq_no"]) for hit in hits}

    def write(self, key: str, source: dict[str, Any]) -> None:
        self.send("PUT", f"_doc/{key}?refresh=true", source)

    def delete(self, key: str) -> None:
        self.send("DELETE", f"_doc/{key}?refresh=true")

    def send(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"{self.node}/{self.name}/{path}", json.dumps(body).encode() if body else None,
                                         {"Content-Type": "application/json"}, method=method)  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


def load(conf: Path, node: str, settings: tuple[str, ...] = ()) -> Indexed:
    """The generation that the run of ``conf`` has with these settings, loaded."""
    sets = [word for text in settings for word in ("--set", text)]
    done = backhaul_here("load", conf, "--json", *sets)
    assert done.code == 0, done.err
    return Indexed(conf, node, done.json["generation"], settings)
