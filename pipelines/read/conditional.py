"""Reads of a listed object that hold only while it is the object that was listed. Knows no format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import NotFound, SourceChanged
from pipelines.partition import Slice
from pipelines.store import Store


def stream_from(store: Store, piece: Slice, start: int = 0) -> Iterator[bytes]:
    """The object's stored bytes from ``start`` on, in blocks. Raises SourceChanged."""
    if start >= piece.size:
        return  # S3 answers 416 to a range that begins at the end
    with _as_listed(store, piece):
        yield from store.stream(piece.key, if_match=piece.etag or None, start=start)


def read_range(store: Store, piece: Slice, start: int, end: int) -> bytes:
    """Stored bytes [start, end), fewer at the object's end. Raises SourceChanged."""
    end = min(end, piece.size)
    if start >= end:
        return b""
    with _as_listed(store, piece):
        return store.get(piece.key, if_match=piece.etag or None, start=start, end=end)


@contextmanager
def _as_listed(store: Store, piece: Slice) -> Iterator[None]:
    try:
        yield
    except (SourceChanged, NotFound) as error:
        if isinstance(error, NotFound) and piece.etag:
            raise  # the store tells a missing object from a missing bucket, which no new plan mends
        raise SourceChanged(
            f"{store.uri}/{piece.key} is gone or no longer what was listed: source changed since planning; plan again: "
            "`backhaul run CONF --replan`"
        ) from error
