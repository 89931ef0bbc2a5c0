"""Which rows a run has: documents met twice, and row digests in source order; on disk, in bounded memory.

Knows tables of identity columns (document_id, tenant, ordinal, position, row_digest); reads no part itself.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from pipelines.digest import canonical_json
from pipelines.errors import BackhaulError, GateRefused

_EXAMPLES = 5


@contextmanager
def scratch_database() -> Iterator[sqlite3.Connection]:
    """A database in a temporary folder, gone at the end.

    Raises:
        BackhaulError: there is no room for it.
    """
    try:
        with (
            tempfile.TemporaryDirectory(prefix="backhaul-ids-") as folder,
            closing(sqlite3.connect(Path(folder) / "ids.sqlite")) as database,
        ):
            database.execute("PRAGMA journal_mode=OFF")
            database.execute("PRAGMA synchronous=OFF")
            yield database
    except (sqlite3.Error, FileNotFoundError) as error:
        raise BackhaulError(
            f"the folder for temporary files cannot be used ({error}); free space there, or set TMPDIR to another "
            "one, and run the same command again"
        ) from error


class Duplicates:
    """Document ids met so far, of which the first in plan order is kept."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._position: str | None = None
        self._dropping = False
        self.dropped: dict[str, list[tuple[int, int]]] = {}  # (part number, row in it) by partition id
        self._examples: list[str] = []
        self._count = 0

    def keep(self, partition_id: str, part_number: int, table: pa.Table) -> list[bool]:
        """For each row, whether its document is the first of its id. Parts come in plan order."""
        columns = (table[name].to_pylist() for name in ("document_id", "tenant", "position"))
        kept = []
        for row, (document_id, tenant, position) in enumerate(zip(*columns, strict=True)):
            # A document's chunks are consecutive, also across parts. Not by ordinal: the first may be a reject.
            if position != self._position:
                self._position = position
                self._dropping = not self._first(document_id, tenant, position)
            if self._dropping:
                self.dropped.setdefault(partition_id, []).append((part_number, row))
            kept.append(not self._dropping)
        return kept

    def must_be_none(self) -> None:
        """Raises GateRefused naming both places of the first ones."""
        if self._count:
            raise GateRefused(
                f"{self._count} documents have an id that another one has: {'; '.join(self._examples)}. "
                "Mend the source, choose another source.fields.id, or set source.on_duplicate: first "
                "to keep the first in plan order."
            )

    def _first(self, document_id: str, tenant: str | None, position: str) -> bool:
        key = hashlib.blake2b(canonical_json([tenant, document_id]), digest_size=16).digest()
        if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, position)).rowcount:
            return True
        self._count += 1
        if len(self._examples) < _EXAMPLES:
            (earlier,) = self._database.execute("SELECT place FROM seen WHERE id = ?", (key,)).fetchone()
            self._examples.append(f"{document_id!r} at {earlier} and at {position}")
        return False


class SourceOrder:
    """Row digests by relative key, then record, however partitions took turns with the objects."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._database.execute("CREATE TABLE ordered (key BLOB, digests BLOB)")

    def add(self, table: pa.Table, keep: Sequence[bool]) -> None:
        """The kept rows of a part. Parts of one object come in the order of its records."""
        columns = (table[name].to_pylist() for name in ("position", "row_digest"))
        rows = zip(*columns, keep, strict=True)
        for key, run in groupby(rows, key=lambda row: row[0].rpartition("@")[0]):
            digests = b"".join(digest for _, digest, kept in run if kept)
            self._database.execute("INSERT INTO ordered VALUES (?, ?)", (key.encode(), digests))

    def digest(self, start: bytes) -> str:
        """SHA-256 over ``start`` and all row digests, in 64 hex digits."""
        self._database.execute("CREATE INDEX by_key ON ordered (key)")
        sha = hashlib.sha256(start)
        for (digests,) in self._database.execute("SELECT digests FROM ordered ORDER BY key, rowid"):
            sha.update(digests)
        return sha.hexdigest()
