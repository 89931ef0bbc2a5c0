"""The manifest: every partition's parts, what duplicates dropped, and the two digests; written last.

What no manifest or receipt names does not exist to a reader. Knows no engine and no index.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import orjson
import pyarrow as pa

from pipelines.closed import MARK, manifest_key
from pipelines.digest import FORMAT, canonical_json, check_format, digest_of, parse_json
from pipelines.errors import BackhaulError, GateRefused, NotFound, RunClosed
from pipelines.identities import Duplicates, SourceOrder, scratch_database
from pipelines.ledger import total
from pipelines.limits import LimitsSettings, check_limits
from pipelines.partition import Partition
from pipelines.parts import Part, bits_digest, read_columns, read_part
from pipelines.plan.plan import Plan
from pipelines.rejects import OF_CHUNKS
from pipelines.store import Created, Store

R = TypeVar("R")
_IDENTITY = ("document_id", "tenant", "ordinal", "position", "row_digest")
_READERS = 8
_MEND = "Delete it: `backhaul embed CONF` writes it again from the receipts, without embedding anything."


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

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def read_manifest(store: Store, run_id: str) -> Manifest | None:
    """None while the run has none.

    Raises:
        RunClosed: it will never have one.
        GateRefused: its root digest does not match its content.
    """
    key = manifest_key(run_id)
    try:
        data = store.get(key)
    except NotFound:
        return None
    if data == MARK:
        raise RunClosed(f"run {run_id} was closed by `backhaul gc`, as a later one is live and nothing was written to it for "
                        "a while; `backhaul run CONF` plans the corpus anew")  # fmt: skip
    value = parse_json(data, f"{store.uri}/{key}", _MEND)
    check_format(value.pop("format", None), f"{store.uri}/{key}")
    root = value.pop("root", None)
    if digest_of(value) != root:
        raise GateRefused(f"{store.uri}/{key} is damaged: its root digest does not match. {_MEND}")
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
        GateRefused: over a limit of the settings, or duplicate document ids with ``on_duplicate: fail``.
    """
    ordered = in_plan_order(plan.partitions, receipts)
    totals = _totals(ordered)
    check_limits(totals, [receipt for _, receipt in ordered], limits, store, plan.run_id)
    with scratch_database() as database:
        duplicates, content = Duplicates(database), SourceOrder(database)
        for partition_id, part, table in _identities(store, plan.run_id, ordered):
            keep = duplicates.keep(partition_id, part.number, table)
            content.add(table, keep)
            report(part.rows)
        if on_duplicate == "fail":
            duplicates.must_be_none()
        dropped = duplicates.dropped
        content_digest = content.digest(plan.space.fingerprint.encode())
    entries = tuple(
        Entry(partition.id, plan.run_id, tuple(_parts(receipt)), tuple(dropped.get(partition.id, ())))
        for partition, receipt in ordered
    )
    bits = hashlib.sha256(plan.space.fingerprint.encode())
    for entry in entries:
        for part in entry.parts:
            bits.update(bytes.fromhex(_bits(store, entry, part)))
    totals["duplicates_dropped"] = sum(len(entry.dropped) for entry in entries)
    manifest = Manifest(plan.run_id, entries, plan.space.to_json(), content_digest, bits.hexdigest(),
                        all(part.reproducible for entry in entries for part in entry.parts), totals)  # fmt: skip
    return create_manifest(store, manifest)


def in_plan_order(partitions: Sequence[Partition], receipts: Mapping[str, R]) -> list[tuple[Partition, R]]:
    """Every partition with its receipt.

    Raises:
        BackhaulError: one has none yet; a manifest without it would hide that for good.
    """
    if missing := [partition.number for partition in partitions if partition.id not in receipts]:
        raise BackhaulError(
            f"{len(missing)} of {len(partitions)} partitions have no receipt yet, the first is partition {missing[0]}; "
            "run the same command again"
        )
    return [(partition, receipts[partition.id]) for partition in partitions]


def create_manifest(store: Store, manifest: Manifest) -> Manifest:
    """Write it with its root digest, unless another driver was first: then that one's is returned.

    Raises:
        GateRefused: the one that is there is of other content.
        RunClosed: the run was closed meanwhile.
    """
    value = manifest.to_json()
    del value["root"], value["format"]
    value = orjson.loads(canonical_json(value))
    root = digest_of(value)
    data = canonical_json({"format": FORMAT, **value, "root": root})
    if store.create(manifest_key(manifest.run_id), data) is Created.LOST:
        winner = read_manifest(store, manifest.run_id)
        if winner is None or winner.content_digest != manifest.content_digest:
            raise GateRefused(f"{store.uri}/{manifest_key(manifest.run_id)} is of other content. {_MEND}")
        return winner
    return replace(manifest, root=root)


def read_rows(store: Store, entry: Entry, *, parts: Container[int] | None = None) -> Iterator[tuple[Part, pa.Table]]:
    """The parts' tables with dropped rows left out and ``number`` (row number within the partition, dropped rows
    counted) and ``partition`` added: what loaders write and verifiers expect. ``parts``: the numbers of those to read."""
    first = 0
    for part in entry.parts:
        if parts is not None and part.number not in parts:
            first += part.rows
            continue
        table = read_part(store, entry.run_id, entry.partition, part)
        table = table.append_column("number", pa.array(range(first, first + part.rows), pa.int64()))
        table = table.append_column("partition", pa.array([entry.partition] * part.rows, pa.string()))
        first += part.rows
        yield part, _without(table, _gone(entry, part))


def _totals(ordered: Sequence[tuple[Partition, Mapping[str, Any]]]) -> dict[str, Any]:
    ledger = total([receipt["ledger"] for _, receipt in ordered])
    rejects: dict[str, int] = {}
    for _, receipt in ordered:
        for cause, count in receipt["rejects"]["counts"].items():
            rejects[cause] = rejects.get(cause, 0) + count
    of_chunks = sum(rejects.get(cause, 0) for cause in OF_CHUNKS)
    return {
        "partitions": len(ordered),
        "parts": sum(len(receipt["parts"]) for _, receipt in ordered),
        "rows": sum(receipt["rows"] for _, receipt in ordered),
        "documents": ledger["documents"],
        "records": ledger["documents"] + sum(rejects.values()) - of_chunks,
        "rejects": rejects,
        "ledger": ledger,
    }


def _identities(store: Store, run_id: str, ordered: Sequence[tuple[Partition, Mapping[str, Any]]],
                ) -> Iterator[tuple[str, Part, pa.Table]]:  # fmt: skip
    """The identity columns of every part in order: (partition id, part, table). A few are read ahead: one after the
    other, a store's answering time would be most of the time of a large run."""
    reading: deque[tuple[str, Part, Future[pa.Table]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for partition, receipt in ordered:
                for part in _parts(receipt):
                    future = pool.submit(read_columns, store, run_id, partition.id, part, _IDENTITY)
                    reading.append((partition.id, part, future))
                    if len(reading) > _READERS:
                        partition_id, done, future = reading.popleft()
                        yield partition_id, done, future.result()
            for partition_id, done, future in reading:
                yield partition_id, done, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _parts(receipt: Mapping[str, Any]) -> list[Part]:
    return [Part(**part) for part in receipt["parts"]]


def _bits(store: Store, entry: Entry, part: Part) -> str:
    gone = _gone(entry, part)
    if not gone:
        return part.vectors
    return bits_digest(_without(read_part(store, entry.run_id, entry.partition, part), gone))


def _gone(entry: Entry, part: Part) -> set[int]:
    return {row for number, row in entry.dropped if number == part.number}


def _without(table: pa.Table, gone: set[int]) -> pa.Table:
    if not gone:
        return table
    return table.take(pa.array([row for row in range(table.num_rows) if row not in gone], pa.int64()))
