"""Notices that this machine is about to be taken away, read from EC2's instance metadata (IMDSv2).

Knows HTTP and what EC2 says there; knows no engine, and not what becomes of a notice. Metadata is a courtesy: where
there is none, or it hangs, refuses or talks nonsense, the work neither waits nor hears of it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

Kind = Literal["spot", "rebalance", "signal", "drain"]
_DISABLED, _ENDPOINT = "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT"  # as in AWS's own libraries
_LINK_LOCAL = "http://169.254.169.254"
_TIMEOUT_S = 1.0  # of each wait on the connection
_POLL_S, _RARE_POLL_S = 5.0, 60.0
_FAILED_POLLS = 3  # in a row, until a service that never answered is asked more rarely
_JOIN_S = 0.2  # what leaving a watch may cost when a request hangs
_MAX_BYTES = 64 << 10
_TOKEN_TTL_S = 21_600  # the most there is
_RENEW_AFTER = 0.9  # of a token's life
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_SPOT_WARNING_S = 120.0  # the most that EC2 gives


@dataclass(frozen=True, slots=True)
class Notice:
    """Why the work should stop. ``detail`` is for people; ``deadline_s`` seconds were left when it was seen."""

    kind: Kind
    detail: str
    deadline_s: float | None = None


class SpotWatch:
    """Calls ``on_notice`` from a thread of its own, at most once each for a spot notice and a rebalance
    recommendation, for as long as the block lasts. Nothing starts where metadata is disabled."""

    def __init__(self, on_notice: Callable[[Notice], None], *, rebalance: bool = True, poll_s: float = _POLL_S,
                 rare_poll_s: float = _RARE_POLL_S, timeout_s: float = _TIMEOUT_S) -> None:  # fmt: skip
        self._on_notice = on_notice
        self._awaited: dict[str, Callable[[str], Notice]] = {"spot/instance-action": _spot_notice}
        if rebalance:
            self._awaited["events/recommendations/rebalance"] = _rebalance_notice
        self._poll_s, self._rare_poll_s, self._timeout_s = poll_s, rare_poll_s, timeout_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> SpotWatch:
        if not _disabled():
            self._thread = threading.Thread(target=self._watch, name="spot-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._over.set()
        # A forgotten generator may be collected in any thread, the watch's own among them.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)  # a request that hangs is left to end alone: the thread is a daemon

    def _watch(self) -> None:
        try:
            metadata = _Metadata(self._timeout_s)
        except ValueError:
            log.warning("%s is no http:// or https:// address; spot notices are not seen", _ENDPOINT)
            return
        answered, failed = False, 0
        while self._awaited and not self._over.is_set():
            reason = self._poll(metadata)
            answered, failed = answered or not reason, failed + 1 if reason else 0
            if failed == _FAILED_POLLS:
                log.debug("instance metadata does not answer (%s)", reason)
            rarely = not answered and failed >= _FAILED_POLLS
            self._over.wait(self._rare_poll_s if rarely else self._poll_s)

    def _poll(self, metadata: _Metadata) -> str:
        """Look once for what is still awaited. Returns why nothing was heard, or an empty text."""
        reason, answered = "", False
        for path, read in list(self._awaited.items()):
            if self._over.is_set():
                break
            try:
                text = metadata.get(path)
                notice = None if text is None else read(text)
            except _NoAnswer as error:
                reason = str(error)
                continue
            answered = True
            if notice and not self._over.is_set():
                del self._awaited[path]
                self._tell(notice)
        return "" if answered else reason

    def _tell(self, notice: Notice) -> None:
        log.warning("%s", notice.detail)
        try:
            self._on_notice(notice)
        except Exception:
            log.exception("a notice found no ear")


def life_cycle() -> Literal["spot", "on-demand", "unknown"]:
    """Whether this machine is spot capacity; "unknown" outside EC2. Takes a few seconds at worst, where metadata hangs."""
    if _disabled():
        return "unknown"
    try:
        found = _Metadata(_TIMEOUT_S).get("instance-life-cycle")
    except (_NoAnswer, ValueError):
        return "unknown"
    if found == "spot":
        return "spot"
    # Reserved ahead, but no more taken away than what is bought on demand.
    return "on-demand" if found in ("on-demand", "scheduled", "capacity-block") else "unknown"


class _NoAnswer(Exception):
    """Metadata said nothing that can be used. Its text is ours alone and holds nothing of the answer."""


class _Metadata:
    """Questions to IMDSv2, each with a token. No proxy, no redirect, bounded answers. Raises ValueError for an
    endpoint that is no HTTP address."""

    def __init__(self, timeout_s: float) -> None:
        url = urlsplit(os.environ.get(_ENDPOINT) or _LINK_LOCAL)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(_ENDPOINT)
        self._secure, self._host, self._port = url.scheme == "https", url.hostname, url.port
        self._prefix = url.path.rstrip("/")
        self._timeout_s = timeout_s
        self._token, self._renew_at = "", 0.0

    def get(self, path: str) -> str | None:
        """The text at ``path`` of the metadata, None where there is none.

        Raises:
            _NoAnswer: unreachable, late, refused or unusable.
        """
        status, text, _ = self._ask("GET", f"/latest/meta-data/{path}", self._with_token())
        if status == 401:  # the service has forgotten the token before its time
            self._token = ""
            status, text, _ = self._ask("GET", f"/latest/meta-data/{path}", self._with_token())
        if status == 404:
            return None
        if status != 200:
            raise _NoAnswer(f"status {status}")
        return text

    def _with_token(self) -> dict[str, str]:
        asked_at = time.monotonic()
        if not self._token or asked_at >= self._renew_at:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
            status, text, granted_s = self._ask("PUT", "/latest/api/token", wanted)
            if status != 200 or not _TOKEN.fullmatch(text):
                raise _NoAnswer(f"status {status} for a token" if status != 200 else "no token in the answer")
            self._token, self._renew_at = text, asked_at + _RENEW_AFTER * granted_s
        return {"X-aws-ec2-metadata-token": self._token}

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str, int]:
        """Status, text, and the seconds that a token in it lives."""
        import http.client  # here, so that nothing is imported where metadata is disabled

        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        try:
            with contextlib.closing(kind(self._host, self._port, timeout=self._timeout_s)) as connection:
                connection.request(method, self._prefix + path, headers={"Connection": "close", **headers})
                response = connection.getresponse()
                body = response.read(_MAX_BYTES)  # what is longer is cut off, and of no use
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _NoAnswer(type(error).__name__) from None  # its text might hold a header
        lives = response.getheader("X-aws-ec2-metadata-token-ttl-seconds", "")
        ttl_s = min(int(lives), _TOKEN_TTL_S) if re.fullmatch("[0-9]{1,9}", lives) else _TOKEN_TTL_S
        return response.status, body.decode("utf-8", "replace").strip(), ttl_s


def _disabled() -> bool:
    return os.environ.get(_DISABLED, "").lower() == "true"


def _spot_notice(text: str) -> Notice:
    """From ``{"action": "terminate", "time": "2017-09-18T08:22:00Z"}``."""
    value = _json_object(text)
    action, at = value.get("action"), _moment(value.get("time"))
    if action not in ("terminate", "stop", "hibernate"):
        raise _NoAnswer("a spot notice without a known action")
    if at is None:
        return Notice("spot", f"spot notice: {action}")
    left_s = (at - datetime.now(UTC)).total_seconds()
    return Notice("spot", f"spot notice: {action} at {at:%H:%M:%SZ}", min(max(left_s, 0.0), _SPOT_WARNING_S))


def _rebalance_notice(text: str) -> Notice:
    """From ``{"noticeTime": "2020-10-27T08:22:00Z"}``."""
    at = _moment(_json_object(text).get("noticeTime"))
    if at is None:
        raise _NoAnswer("a rebalance recommendation without its time")
    return Notice("rebalance", f"rebalance recommendation of {at:%H:%M:%SZ}")


def _json_object(text: str) -> dict[str, Any]:  # Any: JSON of a foreign service, looked at by the callers
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _NoAnswer("no JSON object")
    return value


def _moment(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at and (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
