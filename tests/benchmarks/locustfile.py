"""Users of the query service, for Locust, which is none of our dependencies: ``uvx locust -f tests/benchmarks/locustfile.py
--host http://127.0.0.1:8080``, and with ``--headless -u 20 -t 60s`` no page of Locust's is needed.

Each user asks in all modes, with and without filters, follows a cursor now and then, and opens a document. A token is taken
from BACKHAUL_TOKEN; questions from the file that BACKHAUL_QUERIES names (JSON lines with ``query``), else a few of ours. Answers
429 and 503 are counted apart, and waited out as Retry-After says.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

from locust import HttpUser, between, task

_OURS = (
    "parse a date from a string",
    "how much memory does a process use",
    "upload a file",
    "singular value decomposition",
)
_MODES = ("hybrid", "hybrid", "lexical", "vector")


def _questions() -> list[str]:
    named = os.environ.get("BACKHAUL_QUERIES")
    lines = Path(named).read_text(encoding="utf-8").splitlines() if named else []
    return [found for line in lines if line.strip() and (found := json.loads(line).get("query"))] or list(_OURS)


class Searcher(HttpUser):
    wait_time = between(0.0, 0.2)
    questions = _questions()

    def on_start(self) -> None:
        if token := os.environ.get("BACKHAUL_TOKEN"):
            self.client.headers["authorization"] = f"Bearer {token}"
        self.found: dict[str, Any] = {}

    @task(10)
    def search(self) -> None:
        asked = {"query": random.choice(self.questions), "mode": random.choice(_MODES), "k": random.choice((5, 10, 20))}
        self.found = self._ask(asked) or self.found
        if self.found.get("cursor") and random.random() < 0.2:
            self._ask({**asked, "cursor": self.found["cursor"]}, name="next page")

    @task(1)
    def document(self) -> None:
        if hits := self.found.get("hits"):
            self.client.get(
                "/v1/documents", params={"document_id": random.choice(hits)["document_id"]}, name="document"
            )

    def _ask(self, asked: dict[str, Any], name: str | None = None) -> dict[str, Any] | None:
        with self.client.post("/v1/search", json=asked, name=name or asked["mode"], catch_response=True) as answer:
            if answer.status_code in (429, 503):
                answer.failure(f"refused: {answer.status_code}")
                time.sleep(min(5.0, float(answer.headers.get("retry-after", 1))))
                return None
            return answer.json() if answer.ok else None
