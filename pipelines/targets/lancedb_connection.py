"""Where a LanceDB lives and how to reach it: uri, storage options, errors in our words. Knows no rows."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.errors import SettingsError, TargetError
from pipelines.storage import StorageSettings, aws_credentials
from pipelines.targets.lancedb_import import import_lancedb

# A connection to S3 holds the credentials it was made with, so it is made anew before they end.
_RENEW_BEFORE = timedelta(minutes=5)
# LanceDB's own memory:// gives each connection another database; ours is one per uri and process, as in the store.
_MEMORY: dict[str, Any] = {}


class Connection:
    """``tables()`` is LanceDB's connection, opened on first use and again when its credentials near their end."""

    def __init__(self, uri: str, storage: StorageSettings) -> None:
        parts = urlsplit(uri)
        place = parts.path if parts.scheme == "file" else parts.netloc
        if parts.scheme not in ("file", "s3", "memory") or not place or (parts.scheme == "file" and parts.netloc):
            raise SettingsError(
                f"index.url {uri!r} is not a place for LanceDB; "
                "write s3://bucket/prefix, file:///folder or memory://name, or leave it out for <root>/lancedb"
            )
        self.uri = uri.rstrip("/")
        self._parts = parts
        self._storage = storage
        self._database: Any = None  # Any: lancedb is untyped at this border
        self._expires: datetime | None = None
        self._provider: Any = None

    def tables(self) -> Any:  # Any: lancedb is untyped at this border
        if self._database is None or (self._expires and datetime.now(UTC) > self._expires - _RENEW_BEFORE):
            with self.translated("connecting"):
                self._database = self._connect()
        return self._database

    @contextmanager
    def translated(self, action: str) -> Iterator[None]:
        """LanceDB raises plain ValueError, RuntimeError and OSError; here they become one TargetError."""
        try:
            yield
        except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:400]
            raise TargetError(f"LanceDB at {self.uri}: {action} failed: {reason}; {_advice(reason)}") from error

    def _connect(self) -> Any:  # Any: lancedb is untyped at this border
        lancedb = import_lancedb()
        match self._parts.scheme:
            case "file":
                return lancedb.connect(unquote(self._parts.path))
            case "memory":
                if self.uri not in _MEMORY:
                    _MEMORY[self.uri] = lancedb.connect("memory://")
                return _MEMORY[self.uri]
            case _:
                return lancedb.connect(self.uri, storage_options=self._s3_options())

    def _s3_options(self) -> dict[str, str]:
        storage = self._storage
        endpoint = storage.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = storage.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        options = {"aws_region": region, "timeout": f"{max(storage.timeout_s, 60):.0f}s"}
        if endpoint:
            options["aws_endpoint"] = endpoint
            options["aws_virtual_hosted_style_request"] = "false"
            options["allow_http"] = str(endpoint.startswith("http://")).lower()
        if storage.requester_pays:
            options["aws_request_payer"] = "true"
        return options | ({"aws_skip_signature": "true"} if storage.anonymous else self._credentials(region))

    def _credentials(self, region: str) -> dict[str, str]:
        if self._provider is None:
            self._provider = aws_credentials(self._storage, region, self.uri)
        found = self._provider()
        self._expires = found["expires_at"]
        options = {"aws_access_key_id": found["access_key_id"], "aws_secret_access_key": found["secret_access_key"]}
        return options | ({"aws_session_token": found["token"]} if found.get("token") else {})


_ADVICE = {
    "No space left on device": "the disk is full: free some space and run the same command again",
    "Disk quota exceeded": "the quota is used up: free some space and run the same command again",
    "Permission denied": "choose a place this user may write (index.url, or root)",
    "AccessDenied": "check the credentials and the bucket's policy",
    "NoSuchBucket": "create the bucket, or correct index.url",
}


def _advice(reason: str) -> str:
    for sign, advice in _ADVICE.items():
        if sign in reason:
            return advice
    return "`backhaul doctor CONF` looks at it; `backhaul run CONF` goes on where it stopped"


_LANGUAGES = (
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
)  # fmt: skip


def text_analysis(analyzer: str) -> dict[str, Any]:
    """The full-text index's options for ``index.analyzer``: a language (stemmed, stop words dropped), or
    ``standard`` (lower case alone). Names are OpenSearch's, so that one setting means the same on both.

    Raises:
        SettingsError: no such analyser here, with the nearest name.
    """
    if analyzer == "standard":
        return {"stem": False, "remove_stop_words": False, "ascii_folding": False}
    if analyzer in _LANGUAGES:
        return {"language": analyzer.capitalize(), "stem": True, "remove_stop_words": True}
    near = difflib.get_close_matches(analyzer, ("standard", *_LANGUAGES), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"write standard or one of {', '.join(_LANGUAGES)}"
    raise SettingsError(f"index.analyzer {analyzer!r} is not known to LanceDB; {hint}")
