"""A small corpus on a real OpenSearch."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.document import Chunk, Document, Position, Span
from pipelines.embed.embedder import Vectors
from pipelines.parts import part_table
from pipelines.releases import ReleaseLog
from pipelines.space import Space
from pipelines.store import open_store
from pipelines.targets.on_opensearch import OpenSearchTarget
from pipelines.targets.target import Generation, IndexSettings, Meta

DIMENSIONS = 8
# Settings under which lines are spelled in JSON, and in SMILE.
FORMS: dict[str, dict[str, Any]] = {"json": {}, "smile": {"derived_source": False}}
SPACE = Space("w" * 64, "t" * 64, "mean", "", "", True, 256, DIMENSIONS)
METADATA = ("lang", "value")


def chunk(number: int, **changes: Any) -> Chunk:
    document = Document(f"d{number}", "papers.jsonl", f"Title {number}", "", Position("papers.jsonl", number))
    text = str(changes.pop("text", f"row {number}"))
    return Chunk(replace(document, **changes), 0, text, Span(0, len(text)), text, 5)


def vectors(count: int, seed: int = 3) -> Vectors:
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)


def table(chunks: Sequence[Chunk], values: Vectors | None = None, *, first: int = 0) -> pa.Table:
    made = part_table(chunks, vectors(len(chunks), first) if values is None else values)
    made = made.append_column("partition", pa.array(["p"] * len(chunks)))
    return made.append_column("number", pa.array(range(first, first + len(chunks)), pa.int64()))


def chunks(start: int, end: int) -> list[Chunk]:
    return [chunk(number) for number in range(start, end)]


@dataclass
class Case:
    """One corpus of its own name, and one generation of it. ``settings`` are what its targets have besides their own."""

    url: str
    settings: dict[str, Any] = field(default_factory=dict)
    corpus: str = field(default_factory=lambda: f"case{uuid.uuid4().hex[:10]}")

    @property
    def name(self) -> str:
        return f"{self.corpus}-one"

    @property
    def meta(self) -> Meta:
        return Meta(self.corpus, "r" * 12, SPACE.to_json(), METADATA)

    @property
    def log(self) -> ReleaseLog:
        return ReleaseLog(open_store(f"memory://{self.corpus}"), self.corpus)

    def target(self, *, url: str | None = None, deadline_s: float = 20.0, **settings: Any) -> OpenSearchTarget:
        values = {"target": "opensearch", "url": url or self.url, "replicas": 0, "deadline_s": deadline_s,
                  **self.settings, **settings}  # fmt: skip
        return OpenSearchTarget(IndexSettings(**values), self.log)

    def create(self, name: str | None = None) -> Generation:
        return self.target().create(name or self.name, self.meta, DIMENSIONS)

    def ids(self) -> set[str]:
        """Of the rows that were loaded, though the load is not finished."""
        self.send("POST", f"/{self.name}/_refresh")
        return {row["id"] for page in self.target().scan(self.name, "p") for row in page.rows}

    def search_lines(self, name: str, bodies: Sequence[Any]) -> list[Any]:
        """The answers of one ``_msearch``."""
        lines = "".join(f"{{}}\n{json.dumps(body)}\n" for body in bodies)
        request = urllib.request.Request(
            f"{self.url}/{name}/_msearch", lines.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return list(json.loads(answer.read())["responses"])

    def send(self, method: str, path: str, body: Any = None) -> Any:
        return send(self.url, method, path, body)


def send(url: str, method: str, path: str, body: Any = None) -> Any:
    """What the node answers, without any client of ours."""
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode() if body else None,
                                     {"Content-Type": "application/json"}, method=method)  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())
