"""The object store as a value: bytes by key under one root, and the commit rule of a receipt.

Knows nothing of runs, parts or indices. ``s3://``, ``file://`` and ``memory://`` behave alike.
Create-if-absent is the only condition on writing (``file://`` has no If-Match).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import obstore
from obstore.store import LocalStore, MemoryStore, S3Store

from pipelines.clock import SYSTEM, Clock
from pipelines.errors import NotFound, SettingsError, SourceChanged, StoreError
from pipelines.pages import Object as Object
from pipelines.pages import Pages
from pipelines.retry import final_error, reason
from pipelines.retry import retry_transient as retry_transient
from pipelines.storage import StorageSettings as StorageSettings
from pipelines.storage import s3_backend

T = TypeVar("T")
BLOCK_BYTES = 1 << 20
DEADLINE_S = 60.0
_DELETE_BATCH = 1000


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

    def list(self, prefix: str = "", *, cuts: Sequence[str] = ()) -> Iterator[Object]:
        """Objects whose key begins with ``prefix``, in key order within each page of the backend.

        ``cuts`` are keys between which a long listing may be read side by side, its pages in any order: S3 tells
        a thousand keys a request, and a million of them one request after the other takes minutes.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Absent keys are no error."""


class ObjectStore:
    """A Store on obstore."""

    def __init__(self, backend: obstore.store.ObjectStore, uri: str, *, deadline_s: float = DEADLINE_S,
                 listing_page: int = 1000, api: Any = obstore, clock: Clock = SYSTEM) -> None:  # fmt: skip
        """``api`` has obstore's functions (put, get, head, list, delete), and ``clock`` the time that retries take:
        a simulation brings its own."""
        self.uri = uri.rstrip("/")
        self._api = api
        self._clock = clock
        self._backend = backend
        self._deadline_s = deadline_s
        self._listing_page = listing_page

    def head(self, key: str) -> Object:
        return Object.of(self._retry(key, lambda: self._api.head(self._backend, key)))

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b""
        with _absence_is_change(if_match):
            return self._retry(key, lambda: self._whole(key, if_match, start, end))

    def stream(self, key: str, *, if_match: str | None = None, start: int = 0) -> Iterator[bytes]:
        """Resumes at the byte reached when the connection breaks, under the ETag that the first answer had: a
        mended stream is the same stream, or raises SourceChanged."""
        position = start
        blocks: _Blocks | None = None

        def next_block() -> bytes | None:
            nonlocal blocks, if_match
            if blocks is None:
                options = _get_options(if_match, position, None)
                blocks = _Blocks(lambda: self._api.get(self._backend, key, options=options))
            opened = blocks
            blocks = None  # until it has answered: what failed is opened anew
            block = next(opened, None)
            blocks, if_match = opened, if_match or opened.etag
            return block

        with _absence_is_change(if_match):
            while (block := self._retry(key, next_block)) is not None:
                position += len(block)
                yield block

    def put(self, key: str, data: bytes) -> None:
        self._retry(key, lambda: self._api.put(self._backend, key, data, use_multipart=False))

    def create(self, key: str, data: bytes) -> Created:
        def attempt() -> Created:
            try:
                self._api.put(self._backend, key, data, mode="create", use_multipart=False)
                return Created.WON
            except obstore.exceptions.AlreadyExistsError as error:
                doubt: Exception = error  # 412, or 409 which obstore reports alike
            except obstore.exceptions.GenericError as error:
                if final_error(error, self.uri):
                    raise
                doubt = error  # the answer may be lost while the write stands
            try:
                found = bytes(self._api.get(self._backend, key).bytes())
            except (FileNotFoundError, obstore.exceptions.NotFoundError):
                raise obstore.exceptions.GenericError(
                    f"not there after a create that failed: {reason(doubt)}"
                ) from doubt
            return Created.WON if found == data else Created.LOST

        return self._retry(key, attempt)

    def list(self, prefix: str = "", *, cuts: Sequence[str] = ()) -> Iterator[Object]:
        def request(folder: str | None, after: str | None) -> Iterator[Any]:  # Any: obstore's ObjectMeta
            return iter(self._api.list(self._backend, folder, offset=after, chunk_size=self._listing_page))

        pages = Pages(self.uri, prefix, self._listing_page, ordered=not isinstance(self._backend, LocalStore),
                      request=request, head=self.head, retry=lambda call: self._retry(prefix, call))  # fmt: skip
        return pages.objects(cuts)

    def delete(self, keys: Iterable[str]) -> None:
        waiting = iter(keys)
        while batch := [*islice(waiting, self._delete_batch)]:
            with suppress(NotFound):
                self._retry(batch[0], lambda batch=batch: self._api.delete(self._backend, batch))  # type: ignore[misc]

    @property
    def _delete_batch(self) -> int:
        # S3 takes a thousand keys a request and passes over absent ones; the others stop at the first absent one.
        return _DELETE_BATCH if isinstance(self._backend, S3Store) else 1

    def _whole(self, key: str, if_match: str | None, start: int, end: int | None) -> bytes:
        try:
            return bytes(self._api.get(self._backend, key, options=_get_options(if_match, start, end)).bytes())
        except obstore.exceptions.GenericError as error:
            if _past_the_end(error):
                return b""
            raise

    def _retry(self, key: str, call: Callable[[], T]) -> T:
        uri = f"{self.uri}/{key}".rstrip("/")
        return retry_transient(call, uri, deadline_s=self._deadline_s, clock=self._clock)


class _Blocks:
    """The bytes of an answer in blocks; ``etag`` is that of the answer once a block was read."""

    def __init__(self, request: Callable[[], Any]) -> None:  # Any: obstore's GetResult
        self.etag: str | None = None
        self._request = request
        self._blocks: Iterator[Any] | None = None  # Any: obstore's Bytes
        self._left = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._blocks is None:
            try:
                result = self._request()
            except obstore.exceptions.GenericError as error:
                if _past_the_end(error):
                    raise StopIteration from None
                raise
            self.etag = result.meta["e_tag"]
            self._left = result.range[1] - result.range[0]
            self._blocks = iter(result.stream(min_chunk_size=BLOCK_BYTES))
        if self._left <= 0:  # asking for the end costs as much as asking for a block
            raise StopIteration
        block = bytes(next(self._blocks))
        self._left -= len(block)
        return block


# How S3, LocalStore and MemoryStore say that ``start`` is not before the end of the object.
_PAST_THE_END = ("416 Range Not Satisfiable", "Requested range was invalid", "Wanted range starting at")


def _past_the_end(error: Exception) -> bool:
    return any(sign in str(error) for sign in _PAST_THE_END)


def _get_options(if_match: str | None, start: int, end: int | None) -> Any:  # Any: obstore's GetOptions
    options: dict[str, Any] = {}
    if if_match is not None:
        options["if_match"] = if_match
    if end is not None:
        options["range"] = (start, end)
    elif start:
        options["range"] = {"offset": start}
    return options or None


@contextmanager
def _absence_is_change(if_match: str | None) -> Iterator[None]:
    """An object that was listed and is gone has changed: S3 answers 404 to an If-Match then, HTTP means 412."""
    try:
        yield
    except NotFound as error:
        if if_match is None or str(error).startswith("bucket "):
            raise
        raise SourceChanged(f"{error}; it was there when it was listed: plan again") from error


_MEMORY: dict[str, MemoryStore] = {}


def open_store(uri: str, settings: StorageSettings | None = None, *, create: bool = False) -> ObjectStore:
    """The store at ``uri``: ``s3://bucket/prefix``, ``file:///folder`` or ``memory://name`` (this process only).

    A ``file://`` uri is percent-decoded, as other programs write it; an ``s3://`` uri is taken as it stands.

    Args:
        create: make a ``file://`` folder that is missing (for a root; a source must exist).

    Raises:
        SettingsError: the uri is none of these.
        NotFound, Denied: a ``file://`` folder is missing, or may not be made; no credentials for ``s3://``.
    """
    settings = settings or StorageSettings()
    scheme, _, rest = uri.partition("://")
    if scheme == "s3" and rest and not rest.startswith("/"):
        bucket, _, prefix = rest.partition("/")
        return ObjectStore(s3_backend(bucket, prefix.strip("/"), settings), uri, deadline_s=settings.deadline_s)
    if scheme == "file" and rest.startswith("/"):
        return ObjectStore(_local(uri, Path(unquote(rest)), create), uri, deadline_s=settings.deadline_s)
    if scheme == "memory" and rest:
        return ObjectStore(_MEMORY.setdefault(uri, MemoryStore()), uri, deadline_s=settings.deadline_s)
    raise SettingsError(f"{uri!r} is not a store; write s3://bucket/prefix, file:///folder or memory://name")


def _local(uri: str, folder: Path, create: bool) -> LocalStore:
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise NotFound(f"{uri} is not a folder; check the path")
        return LocalStore(folder)
    except OSError as error:
        raise final_error(error, uri) or StoreError(f"{uri} cannot be used ({error})") from error
