"""The object store as a value: bytes by key under one root, and the commit rule of a receipt.

Knows nothing of runs, parts or indices. ``s3://``, ``file://`` and ``memory://`` behave alike.
Create-if-absent is the only condition on writing (``file://`` has no If-Match).
"""

from __future__ import annotations

import enum
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.store import LocalStore, MemoryStore, S3Store
from pydantic import BaseModel, ConfigDict

from pipelines.errors import Denied, NotFound, SettingsError, SourceChanged, StoreError

T = TypeVar("T")
BLOCK_BYTES = 1 << 20
DEADLINE_S = 60.0
_LISTING_PAGE = 1000


class StorageSettings(BaseModel):
    """How to reach an object store. Credentials come from the AWS chain, never from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str | None = None
    endpoint: str | None = None
    role_arn: str | None = None
    requester_pays: bool = False
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Object:
    """One listed object: key relative to the store's root, size in bytes, modified in ms since 1970."""

    key: str
    size: int
    etag: str
    modified_ms: int
    version: str | None = None


class Created(enum.Enum):
    """What became of a create-if-absent."""

    WON = "won"  # our bytes are there: written now, or by our own retried write
    LOST = "lost"  # another attempt's bytes are there


class Store(Protocol):
    """Bytes by key under one root. Keys are relative, with ``/`` between segments.

    Every method raises NotFound, Denied or StoreError naming the full uri.
    """

    uri: str

    def head(self, key: str) -> Object: ...

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, end: int | None = None) -> bytes:
        """Bytes [start, end) of the object. Raises SourceChanged when ``if_match`` no longer holds."""

    def stream(self, key: str, *, if_match: str | None = None, start: int = 0) -> Iterator[bytes]:
        """The bytes from ``start`` on, in blocks of about a megabyte."""

    def put(self, key: str, data: bytes) -> None: ...

    def create(self, key: str, data: bytes) -> Created:
        """Write only if absent; on any doubt read back and compare (DESIGN §3.3). Never deletes."""

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose key begins with ``prefix``, in key order within each page of the backend."""

    def delete(self, keys: Iterable[str]) -> None:
        """Absent keys are no error."""


class ObjectStore:
    """A Store on obstore."""

    def __init__(self, backend: obstore.store.ObjectStore, uri: str, *, deadline_s: float = DEADLINE_S) -> None:
        self.uri = uri.rstrip("/")
        self._backend = backend
        self._deadline_s = deadline_s

    def head(self, key: str) -> Object:
        return _object(self._retry(key, lambda: obstore.head(self._backend, key)))

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, end: int | None = None) -> bytes:
        return self._retry(key, lambda: b"".join(self._blocks(key, if_match, start, end)))

    def stream(self, key: str, *, if_match: str | None = None, start: int = 0) -> Iterator[bytes]:
        """Resumes at the byte reached when the connection breaks: the object's bytes cannot change under
        ``if_match``, so a mended stream is the same stream."""
        position = start
        blocks: Iterator[bytes] = iter(())
        opened = False

        def next_block() -> bytes | None:
            nonlocal blocks, opened
            try:
                if not opened:
                    blocks, opened = self._blocks(key, if_match, position, None), True
                return next(blocks, None)
            except Exception:
                opened = False
                raise

        while (block := self._retry(key, next_block)) is not None:
            position += len(block)
            yield block

    def put(self, key: str, data: bytes) -> None:
        self._retry(key, lambda: obstore.put(self._backend, key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> Created:
        def attempt() -> Created:
            try:
                obstore.put(self._backend, key, data, mode="create", use_multipart=False)
                return Created.WON
            except obstore.exceptions.AlreadyExistsError:
                pass  # 412, or 409 which obstore reports alike
            except obstore.exceptions.GenericError:
                pass  # the answer may be lost while the write stands
            try:
                found = bytes(obstore.get(self._backend, key).bytes())
            except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
                raise obstore.exceptions.GenericError(f"not there after a failed create: {error}") from error
            return Created.WON if found == data else Created.LOST

        return self._retry(key, attempt)

    def list(self, prefix: str = "") -> Iterator[Object]:
        # obstore matches whole segments; ours is a plain string prefix, as in S3.
        folder, _, rest = prefix.rpartition("/")
        pages = obstore.list(self._backend, folder or None, chunk_size=_LISTING_PAGE)
        while True:
            page = self._retry(prefix, lambda: next(pages, None))
            if page is None:
                return
            for meta in page:
                if not rest or meta["path"].startswith(prefix):
                    yield _object(meta)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._retry(key, lambda key=key: obstore.delete(self._backend, key))  # type: ignore[misc]
            except NotFound:
                continue

    def _blocks(self, key: str, if_match: str | None, start: int, end: int | None) -> Iterator[bytes]:
        if end is not None and end <= start:
            return
        options: dict[str, Any] = {}
        if if_match is not None:
            options["if_match"] = if_match
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        for block in obstore.get(self._backend, key, options=options or None).stream(min_chunk_size=BLOCK_BYTES):  # type: ignore[arg-type]
            yield bytes(block)

    def _retry(self, key: str, call: Callable[[], T]) -> T:
        return retry_transient(call, f"{self.uri}/{key}", deadline_s=self._deadline_s)


def retry_transient(call: Callable[[], T], uri: str, *, deadline_s: float) -> T:
    """Run ``call`` until it answers, with decorrelated jitter between tries, at most ``deadline_s`` seconds.

    The jitter is Brooker's "decorrelated jitter" (AWS Architecture Blog, 2015): each sleep is drawn between
    the base and three times the last one, up to a cap.

    Raises:
        NotFound, Denied, SourceChanged: at once; asking again would not help.
        StoreError: still failing at the deadline.
    """
    deadline, sleep_s = time.monotonic() + deadline_s, 0.1
    while True:
        try:
            return call()
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise NotFound(f"{uri} does not exist ({_reason(error)})") from error
        except obstore.exceptions.PreconditionError as error:
            raise SourceChanged(f"{uri} changed since it was listed") from error
        except (PermissionError, obstore.exceptions.PermissionDeniedError,
                obstore.exceptions.UnauthenticatedError) as error:  # fmt: skip
            raise Denied(f"access to {uri} was denied ({_reason(error)}); check the credentials and policy") from error
        except (obstore.exceptions.InvalidPathError, obstore.exceptions.NotSupportedError) as error:
            raise StoreError(f"{uri}: {_reason(error)}") from error
        except (obstore.exceptions.BaseError, OSError) as error:
            reason = _reason(error)
            if final := _final_error(reason, uri):
                raise final from error
            if time.monotonic() + sleep_s > deadline:
                raise StoreError(f"{uri} could not be reached for {deadline_s:.0f} s ({reason})") from error
            time.sleep(sleep_s)
            sleep_s = min(5.0, random.uniform(0.1, sleep_s * 3))


_FINAL = {
    "No space left on device": "the disk is full; free some space and run the same command again",
    "Disk quota exceeded": "the quota is used up; free some space and run the same command again",
    "Read-only file system": "the file system is read-only; choose another root",
    "File name too long": "the name is too long for this file system",
}


def _final_error(reason: str, uri: str) -> StoreError | None:
    """File-system errors that obstore reports as generic, and that no retry mends."""
    if "Permission denied" in reason:
        return Denied(f"access to {uri} was denied ({reason}); choose a root this user may write")
    for sign, advice in _FINAL.items():
        if sign in reason:
            return StoreError(f"{uri}: {advice} ({reason})")
    return None


def _reason(error: BaseException) -> str:
    """The first line of an obstore error; the rest is a debug dump."""
    return (
        str(error).split("\n\nDebug source", 1)[0].strip().splitlines()[0][:300] if str(error) else type(error).__name__
    )


def _object(meta: Any) -> Object:  # Any: obstore's ObjectMeta is a TypedDict of its own
    return Object(
        key=meta["path"],
        size=meta["size"],
        etag=meta["e_tag"] or "",
        modified_ms=int(meta["last_modified"].timestamp() * 1000),
        version=meta["version"],
    )


_MEMORY: dict[str, MemoryStore] = {}


def open_store(uri: str, settings: StorageSettings | None = None, *, create: bool = False) -> ObjectStore:
    """The store at ``uri``: ``s3://bucket/prefix``, ``file:///folder`` or ``memory://name`` (this process only).

    Args:
        create: make a ``file://`` folder that is missing (for a root; a source must exist).

    Raises:
        SettingsError: the uri is none of these.
        NotFound, Denied: a ``file://`` folder is missing, or may not be made.
    """
    settings = settings or StorageSettings()
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        return ObjectStore(_s3(parts.netloc, parts.path.strip("/"), settings), uri)
    if parts.scheme == "file" and parts.path:
        folder = Path(parts.path)
        if create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Denied(f"{uri} cannot be made ({error.strerror}); choose a root this user may write") from error
        if not folder.is_dir():
            raise NotFound(f"{uri} is not a folder; check the path")
        return ObjectStore(LocalStore(folder), uri)
    if parts.scheme == "memory":
        return ObjectStore(_MEMORY.setdefault(uri, MemoryStore()), uri)
    raise SettingsError(f"{uri!r} is not a store; write s3://bucket/prefix, file:///folder or memory://name")


def _s3(bucket: str, prefix: str, settings: StorageSettings) -> S3Store:
    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    config: dict[str, Any] = {"region": region, "virtual_hosted_style_request": endpoint is None}
    if endpoint:
        config["endpoint"] = endpoint
    if settings.requester_pays:
        config["request_payer"] = True
    provider = None
    if settings.anonymous:
        config["skip_signature"] = True
    else:
        provider = _credentials(settings, region)
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={"allow_http": bool(endpoint and endpoint.startswith("http://")), "timeout": "60s"},
        # One retry policy: ours. obstore's own would hide how often a conditional put was sent.
        retry_config={"max_retries": 0},
        credential_provider=provider,
        **config,
    )


def _credentials(settings: StorageSettings, region: str) -> Any:  # Any: boto3 is untyped at this border
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider, StsCredentialProvider

    session = boto3.Session(region_name=region)
    if session.get_credentials() is None:
        raise Denied(
            "no AWS credentials were found; set AWS_PROFILE or AWS_ACCESS_KEY_ID, "
            "or storage.anonymous: true for a public bucket"
        )
    if settings.role_arn:
        return StsCredentialProvider(session, RoleArn=settings.role_arn, RoleSessionName="backhaul")
    return Boto3CredentialProvider(session)
