"""The manifest: every partition's parts, what duplicates dropped, and the two digests; written last.

What no manifest or receipt names does not exist to a reader. Knows no engine and no index.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from pipelines.digest import FORMAT, canonical_json, check_format, digest_of
from pipelines.errors import GateRefused, NotFound
from pipelines.ledger import LimitsSettings, total
from pipelines.partition import Partition
from pipelines.parts import Part, bits_digest, read_columns, read_part
from pipelines.plan.plan import Plan
from pipelines.store import Created, Store

_IDENTITY = ("document_id", "tenant", "ordinal", "position", "row_digest")
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One partition in the manifest. ``run_id`` is the run whose folder holds the parts; ``dropped`` lists
    (part number, row in the part) of later duplicates, which loaders, scans and digests skip."""

    partition: str
    run_id: str
    parts: tuple[Part, ...]
    dropped: tuple[tuple[int, int], ...] = ()

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts) - len(self.dropped)


@dataclass(frozen=True, slots=True)
class Manifest:
    """``content_digest`` covers row digests in source order and the Space; ``bytes_digest`` the vectors' bits too."""

    run_id: str
    entries: tuple[Entry, ...]
    space: dict[str, Any]
    content_digest: str
    bytes_digest: str
    reproducible: bool  # False when a part was made under an exception that the bytes digest does not cover
    totals: dict[str, Any]
    root: str = field(default="")

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.entries)

    def entry(self, partition_id: str) -> Entry:
        return next(entry for entry in self.entries if entry.partition == partition_id)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def read_manifest(store: Store, run_id: str) -> Manifest | None:
    """None while the run has none. Raises GateRefused when its root digest does not match its content."""
    key = f"runs/{run_id}/manifest.json"
    try:
        value = orjson.loads(store.get(key))
    except NotFound:
        return None
    check_format(value.pop("format", None), f"{store.uri}/{key}")
    root = value.pop("root")
    if digest_of(value) != root:
        raise GateRefused(
            f"{store.uri}/{key} is damaged: its root digest does not match. Restore it, or run with --replan."
        )
    entries = tuple(
        Entry(e["partition"], e["run_id"], tuple(Part(**p) for p in e["parts"]), tuple(map(tuple, e["dropped"])))
        for e in value.pop("entries")
    )
    return Manifest(entries=entries, root=root, **value)


def commit_manifest(store: Store, plan: Plan, receipts: Mapping[str, dict[str, Any]], *, on_duplicate: str,
                    limits: LimitsSettings, report: Callable[[int], None] = lambda rows: None) -> Manifest:  # fmt: skip
    """Build and create the manifest; when another driver was first, its manifest is returned.

    Args:
        receipts: the embed receipt of every partition of the plan, by partition id.

    Raises:
        GateRefused: too many rejects or truncated tokens, or duplicate document ids with ``on_duplicate: fail``.
    """
    ordered = [(partition, receipts[partition.id]) for partition in plan.partitions]
    totals = _totals(ordered)
    check_limits(totals, [receipt for _, receipt in ordered], limits, store, plan.run_id)
    with _Duplicates(on_duplicate, plan.run_id) as duplicates:
        content = hashlib.sha256(plan.space.fingerprint.encode())
        for partition, receipt in ordered:
            for part in _parts(receipt):
                table = read_columns(store, plan.run_id, partition.id, part, _IDENTITY)
                keep = duplicates.keep(partition, part, table)
                for digest, kept in zip(table["row_digest"].to_pylist(), keep, strict=True):
                    if kept:
                        content.update(digest)
                report(part.rows)
        duplicates.check()
        dropped = duplicates.dropped
    entries = tuple(
        Entry(partition.id, plan.run_id, tuple(_parts(receipt)), tuple(dropped.get(partition.id, ())))
        for partition, receipt in ordered
    )
    bits = hashlib.sha256(plan.space.fingerprint.encode())
    for entry in entries:
        for part in entry.parts:
            bits.update(bytes.fromhex(_bits(store, entry, part)))
    totals["duplicates_dropped"] = sum(len(entry.dropped) for entry in entries)
    manifest = Manifest(plan.run_id, entries, plan.space.to_json(), content.hexdigest(), bits.hexdigest(),
                        all(part.reproducible for entry in entries for part in entry.parts), totals)  # fmt: skip
    return _create(store, manifest)


def read_rows(store: Store, entry: Entry) -> Iterator[tuple[Part, pa.Table]]:
    """The parts' tables with dropped rows left out and ``number`` (row number within the partition, dropped rows
    counted) and ``partition`` added: what loaders write and verifiers expect."""
    first = 0
    for part in entry.parts:
        table = read_part(store, entry.run_id, entry.partition, part)
        table = table.append_column("number", pa.array(range(first, first + part.rows), pa.int64()))
        table = table.append_column("partition", pa.array([entry.partition] * part.rows, pa.string()))
        first += part.rows
        gone = {row for number, row in entry.dropped if number == part.number}
        yield part, table.take([i for i in range(part.rows) if i not in gone]) if gone else table


def check_limits(totals: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], limits: LimitsSettings,
                 store: Store, run_id: str) -> None:  # fmt: skip
    """Raises GateRefused when rejects or truncation go over the settings' limits, naming the causes."""
    records, rejected = totals["records"], sum(totals["rejects"].values())
    if records and rejected / records > limits.max_reject_share:
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(totals["rejects"].items()))
        files = [f"{store.uri}/runs/{run_id}/{r['rejects']['file']}" for r in receipts if r["rejects"]["file"]]
        raise GateRefused(
            f"{rejected} of {records} records were rejected ({rejected / records:.1%}), over limits.max_reject_share "
            f"{limits.max_reject_share:.1%}: {causes}. They are kept in {files[0]}"
            f"{f' and {len(files) - 1} more' if len(files) > 1 else ''}; `backhaul failures CONF` groups them. "
            "Mend the source and plan again, or raise the limit and run the same command again."
        )
    ledger, limit = totals["ledger"], limits.max_truncated_share
    if limit is not None and ledger["tokens"] and ledger["truncated_tokens"] / ledger["tokens"] > limit:
        worst = ", ".join(f"{key} ({n})" for key, n in list(ledger["truncated_by_source"].items())[:_EXAMPLES])
        raise GateRefused(
            f"{ledger['truncated_tokens']} of {ledger['tokens']} tokens were cut off by the model's limit, over "
            f"limits.max_truncated_share {limit:.1%}; most of them from {worst}. "
            "Split shorter (split.method: tokens), or raise the limit."
        )


class _Duplicates:
    """Document ids seen so far, on disk: memory stays bounded whatever the corpus."""

    def __init__(self, on_duplicate: str, run_id: str) -> None:
        self._fail = on_duplicate == "fail"
        self._run_id = run_id
        self._folder = tempfile.TemporaryDirectory(prefix="backhaul-ids-")
        self._db = sqlite3.connect(Path(self._folder.name) / "ids.sqlite")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._dropping = False  # chunks of one document are consecutive, also across parts
        self.dropped: dict[str, list[tuple[int, int]]] = {}
        self._examples: list[str] = []
        self._count = 0

    def __enter__(self) -> _Duplicates:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._folder.cleanup()

    def keep(self, partition: Partition, part: Part, table: pa.Table) -> list[bool]:
        columns = (table[name].to_pylist() for name in ("document_id", "tenant", "ordinal", "position"))
        kept = []
        for row, (document_id, tenant, ordinal, position) in enumerate(zip(*columns, strict=True)):
            if ordinal == 0:
                self._dropping = not self._first(document_id, tenant, position)
            if self._dropping:
                self.dropped.setdefault(partition.id, []).append((part.number, row))
            kept.append(not self._dropping)
        return kept

    def _first(self, document_id: str, tenant: str | None, position: str) -> bool:
        key = hashlib.blake2b(canonical_json([tenant, document_id]), digest_size=16).digest()
        if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, position)).rowcount:
            return True
        self._count += 1
        if len(self._examples) < _EXAMPLES:
            (earlier,) = self._db.execute("SELECT place FROM seen WHERE id = ?", (key,)).fetchone()
            self._examples.append(f"{document_id!r} at {earlier} and at {position}")
        return False

    def check(self) -> None:
        if self._fail and self._count:
            raise GateRefused(
                f"{self._count} documents have an id that another one has: {'; '.join(self._examples)}. "
                "Mend the source, choose another source.fields.id, or set source.on_duplicate: first "
                "to keep the first in plan order."
            )


def _totals(ordered: Sequence[tuple[Partition, Mapping[str, Any]]]) -> dict[str, Any]:
    ledger = total([receipt["ledger"] for _, receipt in ordered])
    rejects: dict[str, int] = {}
    for _, receipt in ordered:
        for cause, count in receipt["rejects"]["counts"].items():
            rejects[cause] = rejects.get(cause, 0) + count
    lost_rows = rejects.get("bad_vector", 0)
    return {
        "partitions": len(ordered),
        "parts": sum(len(receipt["parts"]) for _, receipt in ordered),
        "rows": sum(receipt["rows"] for _, receipt in ordered),
        "documents": ledger["documents"],
        "records": ledger["documents"] + sum(rejects.values()) - lost_rows,
        "rejects": rejects,
        "ledger": ledger,
    }


def _parts(receipt: Mapping[str, Any]) -> list[Part]:
    return [Part(**part) for part in receipt["parts"]]


def _bits(store: Store, entry: Entry, part: Part) -> str:
    gone = {row for number, row in entry.dropped if number == part.number}
    if not gone:
        return part.vectors
    table = read_part(store, entry.run_id, entry.partition, part)
    return bits_digest(table.take([row for row in range(part.rows) if row not in gone]))


def _create(store: Store, manifest: Manifest) -> Manifest:
    value = manifest.to_json()
    del value["root"], value["format"]
    value = orjson.loads(canonical_json(value))
    root = digest_of(value)
    data = canonical_json({"format": FORMAT, **value, "root": root})
    if store.create(f"runs/{manifest.run_id}/manifest.json", data) is Created.LOST:
        winner = read_manifest(store, manifest.run_id)
        if winner is None or winner.content_digest != manifest.content_digest:
            raise GateRefused(f"run {manifest.run_id} already has a manifest of other content; run with --replan")
        return winner
    return replace(manifest, root=root)
