"""What is embedded in a simulation: parts of a few bytes, and what receipts and manifest must be, byte for byte.

The expected bytes are spelled here from the contract, not by the code under test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

from pipelines.manifest import Entry, Manifest
from pipelines.partition import Partition, Slice
from pipelines.parts import Part
from pipelines.plan.partitions import Partitions
from pipelines.rejects import Reject

RUN = "5eed5eed5eed5eed5eed5eed5eed5eed"
REJECTING = 0  # the number of the partition that has a reject
REJECT = Reject("empty_text", "nothing is left to embed", "a.jsonl@7", "d7", "")


def spell(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def partitions_of(count: int) -> Partitions:
    return Partitions.of(
        [Partition(sha256(b"partition %d" % i)[:32], i, (), (Slice("a.jsonl", "etag", 9),)) for i in range(count)]
    )


@cache
def partition_list(count: int) -> tuple[Partition, ...]:
    return tuple(partitions_of(count))


@cache
def pending(count: int, committed: frozenset[str]) -> tuple[Partition, ...]:
    return tuple(partitions_of(count).pending(committed))


@cache
def part_bytes(partition_id: str, number: int, maker: str) -> bytes:
    """Rows follow from the plan; vectors are also their maker's."""
    return spell({"rows": [partition_id, number], "vectors": maker})


def is_expected(data: bytes, partition_id: str, number: int) -> bool:
    """What a part is recognised by: its rows, whoever made its vectors."""
    return bool(orjson.loads(data)["rows"] == [partition_id, number])


@cache
def part_json(number: int, data: bytes) -> dict[str, Any]:
    """A part as a receipt describes it."""
    maker = orjson.loads(data)["vectors"]
    part = Part(number, sha256(data), 2, 1, 9, len(data), sha256(b"rows"), sha256(maker.encode()), maker)
    return part.to_json()


def part_key(partition_id: str, number: int, digest: str) -> str:
    return f"runs/{RUN}/parts/{partition_id}/{number:06d}-{digest}.parquet"


def receipt_json(partition: Partition, parts: Sequence[dict[str, Any]], file: str | None) -> dict[str, Any]:
    return {"stage": "embed", "partition": partition.id, "parts": list(parts), "rows": 2 * len(parts), "file": file}


@cache
def expected_reject() -> tuple[str, bytes]:
    """The rejects file's key relative to the run, and its bytes."""
    data = spell([REJECT.cause, REJECT.reason, REJECT.position, REJECT.document_id, REJECT.sample]) + b"\n"
    return f"rejects/embed/{partition_list(1)[REJECTING].id}-{sha256(data)}.jsonl", data


def expected_receipt(partition: Partition, chosen: Sequence[bytes]) -> bytes:
    """The receipt's bytes when the parts are ``chosen``."""
    file = expected_reject()[0] if partition.number == REJECTING else None
    parts = [part_json(number, data) for number, data in enumerate(chosen)]
    return spell({"format": 1, **receipt_json(partition, parts, file)})


def manifest_of(ordered: Sequence[tuple[Partition, Mapping[str, Any]]]) -> Manifest:
    """The manifest as a driver builds it of every partition's receipt."""
    entries = tuple(
        Entry(partition.id, RUN, tuple(Part(**part) for part in receipt["parts"])) for partition, receipt in ordered
    )
    content = sha256("".join(part.content for entry in entries for part in entry.parts).encode())
    bits = sha256("".join(part.vectors for entry in entries for part in entry.parts).encode())
    return Manifest(RUN, entries, {}, content, bits, True, {"parts": sum(len(e.parts) for e in entries)})


def expected_manifest(receipts: Sequence[bytes]) -> bytes:
    """The manifest's bytes when these are the receipts of all partitions in the plan's order."""
    parsed = [orjson.loads(data) for data in receipts]
    parts = [part for receipt in parsed for part in receipt["parts"]]
    value = {
        "run_id": RUN,
        "entries": [{"partition": r["partition"], "run_id": RUN, "parts": r["parts"], "dropped": []} for r in parsed],
        "space": {},
        "content_digest": sha256("".join(part["content"] for part in parts).encode()),
        "bytes_digest": sha256("".join(part["vectors"] for part in parts).encode()),
        "reproducible": True,
        "totals": {"parts": len(parts)},
    }
    return spell({"format": 1, **value, "root": sha256(spell(value))})
