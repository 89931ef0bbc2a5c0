"""Looks all the time at what an alias names: exactly one index, which holds all rows of its generation."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


class AliasWatch:
    """``wrong`` holds what was seen that must never be; ``looks`` counts. Before the first release nothing is asked."""

    def __init__(self, url: str, alias: str, rows: int) -> None:
        self._url, self._alias, self._rows = url, alias, rows
        self._over = threading.Event()
        self._live: set[str] = set()
        self.wrong: list[str] = []
        self.looks = 0

    def look(self) -> None:
        named = self._named()
        if not named and not self._live:
            return
        self.looks += 1
        if len(named) != 1:
            self.wrong.append(f"the alias named {sorted(named) or 'nothing'}")
        for name in named:
            self._live.add(name)
            rows = self._count(name)
            if rows != self._rows and name in self._named():  # else it was dropped after the alias had moved on
                self.wrong.append(f"the alias named {name}, of which {rows} of {self._rows} rows answered")

    def _named(self) -> set[str]:
        return set(self._get(f"/_alias/{self._alias}") or {})

    def _count(self, name: str) -> int | None:
        found = self._get(f"/{name}/_count")
        return found["count"] if found and found["_shards"]["successful"] == found["_shards"]["total"] else None

    def _get(self, path: str) -> dict[str, dict[str, int]] | None:
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=30) as answer:
                found: dict[str, dict[str, int]] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def _run(self) -> None:
        try:
            while not self._over.wait(0.005):
                self.look()
        except Exception as error:
            self.wrong.append(f"the watch itself failed: {error!r}")

    @contextmanager
    def watching(self) -> Iterator[AliasWatch]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
