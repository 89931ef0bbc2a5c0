"""The parts of one partition: found only when they are what they are named and expected, marked, written, committed."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.checkpoint import Checkpoint, part_key
from pipelines.digest import digest_bytes
from pipelines.errors import StoreError
from pipelines.receipts import embed_receipts
from pipelines.store import ObjectStore, open_store


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return open_store(f"memory://{request.node.name}")


def checkpoint(store: ObjectStore) -> Checkpoint:
    return Checkpoint(store, "r", "p", embed_receipts(store, "r"))


def keys(store: ObjectStore, folder: str) -> list[str]:
    return [found.key for found in store.list(f"runs/r/{folder}")]


def anything(data: bytes) -> bytes | None:
    return data


def test_a_part_is_named_by_its_number_and_bytes_and_writing_it_twice_leaves_one(store: ObjectStore) -> None:
    for _ in range(2):
        assert checkpoint(store).write(3, b"data") == digest_bytes(b"data")
    assert keys(store, "parts/") == [part_key("r", "p", 3, digest_bytes(b"data"))]


def test_a_part_that_an_earlier_attempt_left_is_found_by_its_number_alone(store: ObjectStore) -> None:
    checkpoint(store).write(1, b"one")
    later = checkpoint(store)
    assert later.find(1, anything) == b"one"
    assert later.find(0, anything) is None
    assert later.find(11, anything) is None


def test_what_was_written_after_an_attempt_began_is_not_found_by_it(store: ObjectStore) -> None:
    attempt = checkpoint(store)
    checkpoint(store).write(0, b"data")
    assert attempt.find(0, anything) is None, "which parts are found follows from one moment"


def test_a_part_whose_bytes_are_not_as_its_name_says_is_neither_found_nor_deleted(store: ObjectStore) -> None:
    key = part_key("r", "p", 0, digest_bytes(b"data"))
    store.put(key, b"damaged")
    assert checkpoint(store).find(0, anything) is None
    assert keys(store, "parts/") == [key]
    checkpoint(store).write(0, b"data")
    assert checkpoint(store).find(0, anything) == b"data", "written again it is mended"


def test_of_several_parts_the_smallest_name_that_is_accepted_wins(store: ObjectStore) -> None:
    parts = sorted([b"a", b"b", b"c"], key=digest_bytes)
    for data in reversed(parts):
        checkpoint(store).write(0, data)
    assert checkpoint(store).find(0, anything) == parts[0]
    assert checkpoint(store).find(0, lambda data: None if data == parts[0] else data) == parts[1]
    assert checkpoint(store).find(0, lambda data: None) is None


def test_a_part_that_vanished_since_the_listing_is_not_found(store: ObjectStore) -> None:
    digest = checkpoint(store).write(0, b"data")
    attempt = checkpoint(store)
    store.delete([part_key("r", "p", 0, digest)])
    assert attempt.find(0, anything) is None


def test_each_attempt_marks_what_it_begins_with_its_own_name(store: ObjectStore) -> None:
    for _ in range(3):
        attempt = checkpoint(store)
        attempt.begin(0)
        attempt.begin(0)
    marks = keys(store, "attempts/embed/p/")
    assert len(marks) == 3
    assert {mark.rpartition("/")[2] for mark in marks} == {"000000"}


def test_a_receipt_is_committed_when_all_that_it_names_is_there(store: ObjectStore) -> None:
    attempt = checkpoint(store)
    named = [(number, attempt.write(number, b"part %d" % number)) for number in range(2)]
    receipt: dict[str, Any] = {"rows": 2}
    store.put("runs/r/rejects/embed/p-1.jsonl", b"")
    assert attempt.commit(receipt, named, "rejects/embed/p-1.jsonl") == {"format": 1, "rows": 2}


@pytest.mark.parametrize("missing", [0, 1, "rejects"])
def test_a_receipt_that_names_what_is_not_there_is_not_written(store: ObjectStore, missing: int | str) -> None:
    attempt = checkpoint(store)
    named = [(number, attempt.write(number, b"part %d" % number)) for number in range(2)]
    if isinstance(missing, int):
        store.delete([part_key("r", "p", *named[missing])])
    file = "rejects/embed/p-1.jsonl" if missing == "rejects" else None
    with pytest.raises(StoreError, match="vanished before its receipt; run the same command again"):
        attempt.commit({"rows": 2}, named, file)
    assert keys(store, "receipts/") == []


def test_the_second_attempt_to_commit_gets_the_first_ones_receipt_and_both_parts_stay(store: ObjectStore) -> None:
    receipts = []
    for data in (b"one", b"two"):
        attempt = checkpoint(store)
        digest = attempt.write(0, data)
        receipts.append(attempt.commit({"part": digest}, [(0, digest)], None))
    assert receipts[1] == receipts[0]
    assert len(keys(store, "parts/")) == 2
