"""Embeddings over the OpenAI protocol: one POST to /embeddings, as TEI, vLLM, Infinity and OpenAI serve it.

Knows one address and its key; decides nothing about pace, retries or cost. Shapes: OpenAI API reference, "Create
embeddings"; rate limit headers: OpenAI's guide "Rate limits" (durations such as ``6m0s`` or ``12ms``).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import numpy as np
import orjson
import urllib3
from urllib3 import exceptions

from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.remote_failures import (
    BROKEN,
    CERTIFICATE,
    INCOMPLETE,
    NO_CONNECTION,
    TIMEOUT,
    UNREADABLE,
    Failure,
    Refused,
    short,
)
from pipelines.embed.remote_pace import Limit, Resource
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.embed.service import Answer
from pipelines.errors import SettingsError

_CONNECT_S = 10.0
_TEXTS = 32  # what TEI takes unless told otherwise (--max-client-batch-size)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RESOURCES: tuple[Resource, ...] = ("requests", "tokens")
_NO_CONNECTION = (exceptions.NewConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyError)


class HttpService:
    """``dimensions`` is what vectors must have, asked for where the settings say so."""

    def __init__(self, settings: RemoteSettings, dimensions: int) -> None:
        assert settings.url is not None
        self._url = f"{settings.url.rstrip('/')}/embeddings"
        self.name = f"the embedding service at {self._url} (model {settings.model})"
        self.key = f"the environment variable {settings.key_env}"
        self.texts_per_request = settings.texts_per_request or _TEXTS
        self._request: dict[str, Any] = {"model": settings.model}
        if settings.send_dimensions:
            self._request["dimensions"] = dimensions
        self._key = _key(settings.key_env)
        if self._key is None:
            self.key += ", which is not set,"
        self._base64, self._taken = True, False
        self._pool = urllib3.PoolManager(
            maxsize=settings.max_in_flight, retries=False,
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=settings.timeout_s),
            headers={"Content-Type": "application/json", "User-Agent": "backhaul",
                     **({"Authorization": f"Bearer {self._key}"} if self._key else {})})  # fmt: skip

    def send(self, texts: Sequence[str], role: Role) -> Answer:
        status, headers, body = self._post(texts)
        if status in (400, 422) and self._base64 and not self._taken:
            self._base64 = False  # a server that knows numbers only: vLLM, TEI, Infinity and OpenAI take both
            status, headers, body = self._post(texts)
        if status != 200:
            raise Refused(self._failure(status, headers, body))
        self._taken = True
        return answer_of(body, len(texts), limits_of(headers))

    def _post(self, texts: Sequence[str]) -> tuple[int, Mapping[str, str], bytes]:
        asked = {**self._request, "input": list(texts), **({"encoding_format": "base64"} if self._base64 else {})}
        try:
            found = self._pool.request("POST", self._url, body=orjson.dumps(asked), redirect=False)
        except exceptions.SSLError as error:
            raise Refused(Failure(None, CERTIFICATE, _words(error))) from error
        except _NO_CONNECTION as error:
            raise Refused(Failure(None, NO_CONNECTION, _words(error))) from error
        except exceptions.ReadTimeoutError as error:
            raise Refused(Failure(None, TIMEOUT, "no answer in time")) from error
        except exceptions.HTTPError as error:
            raise Refused(Failure(None, BROKEN, _words(error))) from error
        return found.status, found.headers, found.data

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        kind, reason = _error_of(body, status)
        if self._key:
            reason = reason.replace(self._key, "…")
        return Failure(status, kind, short(reason), retry_after(headers))


def answer_of(body: bytes, count: int, limits: tuple[Limit, ...] = ()) -> Answer:
    """Vectors of ``count`` texts, each in the row that its ``index`` names.

    Raises:
        Refused: the body is no such answer, or does not answer for every text once.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(body)  # takes NaN, which some servers write
        except ValueError as error:
            raise Refused(Failure(200, UNREADABLE, f"the answer is not JSON, or breaks off: {body[:80]!r}")) from error
    items = value.get("data") if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise Refused(Failure(200, UNREADABLE, f"the answer has no list `data`: {body[:80]!r}"))
    tokens = _tokens(value)
    order = _order(items)
    if order is None or len(items) != count:
        raise Refused(Failure(200, INCOMPLETE, f"{len(items)} vectors came for {count} texts, or their indices are wrong"),
                      tokens=tokens)  # fmt: skip
    try:
        rows = stacked([_vector(items[at].get("embedding")) for at in order])
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise Refused(
            Failure(200, UNREADABLE, f"a vector cannot be read ({short(str(error))})"), tokens=tokens
        ) from error
    return Answer(rows, tokens, limits, value.get("model") if isinstance(value.get("model"), str) else None)


def stacked(rows: Sequence[Any]) -> Vectors:
    """float32[rows, dimensions] of rows of numbers, null being NaN. Raises ValueError unless they are alike."""
    vectors: Vectors = np.array(rows, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"vectors of shape {vectors.shape[1:]}")
    return vectors


def limits_of(headers: Mapping[str, str]) -> tuple[Limit, ...]:
    """What ``x-ratelimit-*`` headers say; what cannot be read says nothing."""
    limits = []
    for resource in _RESOURCES:
        most, left = (_number(headers.get(f"x-ratelimit-{what}-{resource}")) for what in ("limit", "remaining"))
        whole_in_s = _seconds(headers.get(f"x-ratelimit-reset-{resource}"))
        if most is not None and left is not None and whole_in_s is not None:
            limits.append(Limit(resource, most, left, whole_in_s))
    return tuple(limits)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` (seconds or a date) or ``retry-after-ms`` ask for."""
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return max(0.0, ms / 1000)
    said = headers.get("retry-after")
    if said is None:
        return None
    if (seconds := _seconds(said)) is not None:
        return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except ValueError:
        return None


def _order(items: Sequence[Any]) -> list[int] | None:
    """Where the vector of each text stands, by the items' ``index``; as they come where none has one. None: some text
    would have no vector, or two."""
    named = [item.get("index") if isinstance(item, dict) else -1 for item in items]
    if all(index is None for index in named):
        return list(range(len(items)))
    at = {index: number for number, index in enumerate(named) if type(index) is int}
    return [at[i] for i in range(len(items))] if at.keys() == {*range(len(items))} else None


def _vector(found: Any) -> Any:  # Any: JSON
    if isinstance(found, str):
        return np.frombuffer(base64.b64decode(found, validate=True), dtype="<f4")
    if not isinstance(found, list):
        raise ValueError(f"it is {type(found).__name__}, neither numbers nor base64")
    return found


def _tokens(value: Mapping[str, Any]) -> int | None:
    usage = value.get("usage")
    told = [usage.get(name) for name in ("total_tokens", "prompt_tokens")] if isinstance(usage, dict) else []
    return next((tokens for tokens in told if type(tokens) is int and tokens > 0), None)


def _error_of(body: bytes, status: int) -> tuple[str, str]:
    """Name and reason, as OpenAI, TEI, vLLM or FastAPI spell an error; others' bodies as they are."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"http_{status}", body[:400].decode("utf-8", "replace")
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        kind = value.get("error_type") if isinstance(value, dict) else None
        return str(kind or f"http_{status}"), str(error)
    kind = next((error[name] for name in ("code", "type", "error_type") if isinstance(error.get(name), str)), None)
    return str(kind or f"http_{status}"), str(error.get("message") or error.get("detail") or error)


def _key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"the environment variable {variable} holds no key that a header can carry; set it anew")
    return key


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _seconds(text: str | None) -> float | None:
    """Of ``1.5``, ``12ms`` or ``6m0s``."""
    if (plain := _number(text)) is not None or text is None:
        return plain
    found = _DURATION.findall(text)
    if "".join(number + unit for number, unit in found) != text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in found)


def _words(error: Exception) -> str:
    """urllib3's words without object addresses."""
    return short(str(error).rpartition(">: ")[2])
