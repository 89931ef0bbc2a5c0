"""One line of JSON for each request: who asked what, when, and what became of it. Never a token, nor what was answered.

Whatever a caller sends stays within its line: JSON escapes control characters, and here everything beyond ASCII.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from jobs.service.auth import Caller
from pipelines.errors import SettingsError

_MOST_CHARACTERS = 256  # of any text
_MOST_OF_QUERY = 2_000
_MORE = ("k", "mode", "refused")


class AuditSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = Field(None, description="file that audit lines are added to; null: standard error")
    query_text: bool = Field(False, description="whether audit lines hold what was searched for")


class Told(Protocol):
    """What a request says of its answer."""

    @property
    def generation(self) -> str: ...
    @property
    def hits(self) -> int: ...
    @property
    def cached(self) -> bool: ...


class Audit:
    """Raises SettingsError where the file cannot be opened."""

    def __init__(self, settings: AuditSettings) -> None:
        self._handler, self._query_text = _handler(settings.path), settings.query_text
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        # A logger of its own, below no other: what is set for other logs neither doubles nor drops a line.
        self._log = logging.Logger("backhaul.audit", logging.INFO)
        self._log.addHandler(self._handler)

    def write(self, *, id_: str, caller: Caller | None, method: str, path: str, status: int, seconds: float, spent: Told,
              more: Mapping[str, Any]) -> None:  # fmt: skip
        """``caller`` None: nobody was let in. ``more`` may have k, mode, query and refused (the reason of a refusal)."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"), "id": id_, "subject": caller and caller.subject,
            "tenant": caller and caller.tenant, "method": method, "path": path, "status": status, "ms": round(seconds * 1e3, 3),
            "generation": spent.generation or None, "hits": spent.hits, "cached": spent.cached,
            **{name: more.get(name) for name in _MORE},
        }  # fmt: skip
        bounded = {name: _bounded(value, _MOST_CHARACTERS) for name, value in line.items()}
        query = more.get("query")
        if self._query_text and isinstance(query, str):
            bounded |= {"query": _bounded(query, _MOST_OF_QUERY), "query_characters": len(query)}
        self._log.info(json.dumps(bounded))

    def close(self) -> None:
        self._handler.close()


def _handler(path: str | None) -> logging.Handler:
    if path is None:
        return logging.StreamHandler(sys.stderr)
    try:
        return _PrivateFile(path)
    except OSError as error:
        raise SettingsError(f"serve.audit.path: {path} cannot be opened: {error.strerror}") from error


class _PrivateFile(WatchedFileHandler):
    """Readable by its owner alone, also after it was moved away and made anew (logrotate)."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="ascii")

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600))


def _bounded(value: Any, most: int) -> Any:  # Any: a JSON scalar, or whatever else is made a text
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
