"""The frozen listing: every object of the source that is to be read, listed once. Knows no partitions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Denied, NotFound, SettingsError
from pipelines.plan.globs import matcher
from pipelines.read.reader import SourceSettings
from pipelines.store import Object, Store, open_store

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.large_string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.large_string(), nullable=False),
        pa.field("modified_ms", pa.int64(), nullable=False),
        pa.field("version", pa.large_string()),
    ]
)
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Listing:
    """``table`` has the columns key, size, etag, modified_ms and version, in the order of the keys' bytes.

    ``listed`` counts all objects under the uri, ``empty`` those skipped because they hold no byte (directory
    markers among them), ``unmatched`` those that ``include`` and ``exclude`` left out.
    """

    table: pa.Table
    listed: int
    empty: int
    unmatched: int

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def objects(self) -> Iterator[Object]:
        for key, size, etag, modified_ms, version in self._rows(self.table.column_names):
            yield Object(key, size, etag, modified_ms, version)

    def column(self, name: str) -> list[Any]:  # Any: text or whole numbers, as the column is
        return list(self.table[name].to_pylist())

    @property
    def total_bytes(self) -> int:
        return int(pc.sum(self.table["size"]).as_py() or 0)

    @property
    def digest(self) -> str:
        """SHA-256 over key, ETag, size and version of each object, in order; 64 hex digits."""
        sha = hashlib.sha256()
        for row in self._rows(("key", "etag", "size", "version")):
            sha.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        return sha.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, for the user to know."""
        notes = []
        if self.empty:
            notes.append(f"{self.empty:,} empty objects were skipped")
        if self.unmatched:
            notes.append(f"{self.unmatched:,} of {self.listed:,} objects are left out by source.include and exclude")
        return tuple(notes)

    def _rows(self, columns: Iterable[str]) -> Iterator[tuple[Any, ...]]:  # Any: as the columns are
        for batch in self.table.select(list(columns)).to_batches(max_chunksize=_BATCH_ROWS):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def open_source(source: SourceSettings) -> tuple[Store, str | None]:
    """The store that holds the source, and the relative key when ``source.uri`` is one object.

    The store of one object is opened on its parent, so that its relative key is its name.

    Raises:
        SettingsError, NotFound, Denied, StoreError: as opening the store does.
    """
    parent, _, name = source.uri.rstrip("/").rpartition("/")
    parts = urlsplit(source.uri)
    if source.uri.endswith("/") or not parts.path.strip("/") or parts.scheme == "memory":
        return open_store(source.uri, source.storage), None
    if parts.scheme == "file" and not _is_folder(source):
        return open_store(f"{parent}/", source.storage), name  # gone since planning, it is missed when it is read
    if parts.scheme == "s3":
        store = open_store(f"{parent}/", source.storage)
        try:
            store.head(name)
            return store, name
        except (NotFound, Denied):
            pass  # a policy may allow the listing of a prefix and answer 403 for a key that does not exist
    return open_store(source.uri, source.storage), None


def list_source(store: Store, source: SourceSettings, only_key: str | None = None) -> Listing:
    """List the source once. Nothing re-lists later: every read is conditional on what stands here.

    Raises:
        SettingsError: no object is left to read, or a glob cannot be understood.
        NotFound, Denied, StoreError: as the store says.
    """
    try:
        wanted = matcher(source.include, source.exclude)
    except re.error as error:
        raise SettingsError(
            f"source.include {list(source.include)} or exclude {list(source.exclude)} is no glob: {error}"
        ) from error
    found = iter([store.head(only_key)]) if only_key is not None else store.list()
    listed = empty = unmatched = 0
    batches = []
    while page := list(islice(found, _BATCH_ROWS)):
        kept = [one for one in page if one.size and not one.key.endswith("/")]
        matched = [one for one in kept if wanted(one.key)]
        listed += len(page)
        empty += len(page) - len(kept)
        unmatched += len(kept) - len(matched)
        batches.append(_batch(matched))
    listing = Listing(_sorted(pa.Table.from_batches(batches, _SCHEMA)), listed, empty, unmatched)
    if not len(listing):
        raise SettingsError(_nothing(source, listing))
    return listing


def _is_folder(source: SourceSettings) -> bool:
    """Whether a ``file://`` source is a folder; anything else is answered, or refused, by ``open_store``."""
    try:
        open_store(source.uri, source.storage)
    except NotFound:
        return False
    return True


def _batch(page: list[Object]) -> pa.RecordBatch:
    columns = [[getattr(one, name) for one in page] for name in _SCHEMA.names]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=_SCHEMA)


def _sorted(table: pa.Table) -> pa.Table:
    """In the order of the keys' UTF-8 bytes. S3 lists in that order already; ``file://`` does not."""
    keys = table["key"].combine_chunks()
    if len(keys) < 2 or pc.all(pc.less_equal(keys[:-1], keys[1:])).as_py():
        return table
    return table.take(pc.sort_indices(keys))


def _nothing(source: SourceSettings, listing: Listing) -> str:
    message = f"no objects matched: listed {listing.listed:,} under {source.uri}"
    if listing.empty:
        message += f" ({listing.empty:,} of them empty)"
    message += f", include {list(source.include)}, exclude {list(source.exclude)}; "
    if listing.unmatched and not any("**" in glob for glob in source.include):
        return message + "`*` stays within a folder, so write **/*.jsonl to cross folders in source.include"
    return message + "check source.uri and source.include"
