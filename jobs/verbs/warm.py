"""Ask a running service what a query log says it will be asked. Knows no cache: the service keeps what it answers."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import requests
from rich.console import Console
from rich.progress import track

from pipelines.errors import SettingsError, TargetError

_TIMEOUT_S = 30
_FIELDS = ("query", "mode", "k", "filter", "group_by_document", "exact", "fusion")
_LONGEST = 1 << 20  # characters of a line


def warm(url: str, queries: Path, *, limit: int, token: str | None, quiet: bool = False) -> dict[str, Any]:
    """The most frequent ``limit`` questions of a log of JSON lines, each with ``query`` and perhaps ``mode``, ``k``,
    ``filter``…, as the service's audit log has them, or with ``text`` alone, as in BEIR's layout. How many were asked, cached already, and refused, and their
    seconds.

    Raises:
        SettingsError: the file is missing, or holds a line that is no question.
        TargetError: the service does not answer, or lets nobody in with this token.
    """
    asked = most_frequent(queries, limit)
    if not asked:
        raise SettingsError(f'{queries} holds no question; each line is {{"query": …}}')
    seconds, refused = [], 0
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with requests.Session() as session:
        for question in track(asked, "warm", console=Console(stderr=True), disable=quiet):
            began = time.monotonic()
            try:
                answer = session.post(
                    f"{url.rstrip('/')}/v1/search", json=question, headers=headers, timeout=_TIMEOUT_S
                )
            except requests.RequestException as error:
                raise TargetError(f"the service at {url} does not answer: {type(error).__name__}; "
                                  "`backhaul serve CONF` starts one") from error  # fmt: skip
            if answer.status_code in (401, 403):
                raise TargetError(f"the service at {url} lets nobody in with this token; set BACKHAUL_TOKEN")
            seconds.append(time.monotonic() - began)
            refused += answer.status_code != 200
    return {"url": url, "asked": len(asked), "refused": refused, "seconds": round(sum(seconds), 3),
            "slowest_ms": round(1000 * max(seconds), 1)}  # fmt: skip


def most_frequent(queries: Path, limit: int) -> list[dict[str, Any]]:
    """Distinct questions of the log, the most frequent first. Lines without a query (other requests) are passed over."""
    counts: Counter[bytes] = Counter()
    try:
        with queries.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip() and (question := _question(line, f"{queries}:{number}")):
                    counts[orjson.dumps(question, option=orjson.OPT_SORT_KEYS)] += 1
    except OSError as error:
        raise SettingsError(f"{queries} cannot be read: {error.strerror}") from error
    return [orjson.loads(question) for question, _ in counts.most_common(limit)]


def _question(line: bytes, where: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line[:_LONGEST])
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{where} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError(f'{where} is no question; write {{"query": "some words"}}')
    query = found.get("query") or found.get("text")
    return {**{name: found[name] for name in _FIELDS if found.get(name) is not None}, "query": query} if query else None
