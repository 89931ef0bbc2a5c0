"""Receipts: committed once, the first wins, and the data is there before."""

from __future__ import annotations

import time
from hashlib import sha256

import pytest
from obstore.store import MemoryStore

from pipelines.attempts import count_attempts
from pipelines.checkpoint import Checkpoint
from pipelines.errors import NewerFormat, StoreError
from pipelines.receipts import Receipts, embed_receipts
from pipelines.store import ObjectStore, open_store


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return open_store(f"memory://{request.node.name}")


def test_a_receipt_is_found_after_its_commit_and_not_before(store: ObjectStore) -> None:
    receipts = Receipts(store, "runs/r/receipts/embed")
    assert receipts.find("p") is None
    receipts.commit("p", {"rows": 3}, must_exist=[])
    assert receipts.find("p") == {"format": 1, "rows": 3}
    assert receipts.committed() == {"p"}


@pytest.mark.parametrize("page", [3, 1000])
def test_only_receipts_are_listed_however_many_pages_they_take(page: int) -> None:
    store = ObjectStore(MemoryStore(), "memory://listed", listing_page=page)
    receipts = Receipts(store, "runs/r/loads/g/u/")
    ids = {sha256(b"%d" % number).hexdigest()[:32] for number in range(50)}
    for partition_id in ids:
        receipts.commit(partition_id, {}, must_exist=[])
    for other in ("u/finished/00000001.json", "u/abc.txt", "u/f/abc.json", "u2/abc.json", "u.json"):
        store.put(f"runs/r/loads/g/{other}", b"{}")
    assert receipts.committed() == ids
    times = dict(receipts.listed())
    assert set(times) == ids
    assert all(abs(ms / 1000 - time.time()) < 60 for ms in times.values())
    assert times == {one: store.head(f"{receipts.folder}/{one}.json").modified_ms for one in ids}


def test_the_second_attempt_loses_quietly_and_gets_the_winner(store: ObjectStore) -> None:
    receipts = Receipts(store, "runs/r/receipts/embed")
    receipts.commit("p", {"rows": 3}, must_exist=[])
    assert receipts.commit("p", {"rows": 4}, must_exist=[])["rows"] == 3


def test_a_receipt_whose_part_vanished_is_not_written(store: ObjectStore) -> None:
    receipts = Receipts(store, "runs/r/receipts/embed")
    with pytest.raises(StoreError, match="vanished"):
        receipts.commit("p", {"rows": 3}, must_exist=["runs/r/parts/p/0.parquet"])
    assert receipts.find("p") is None


def test_a_receipt_of_a_newer_format_is_refused_by_name(store: ObjectStore) -> None:
    store.put("runs/r/receipts/embed/p.json", b'{"format": 2}')
    with pytest.raises(NewerFormat, match=r"p\.json has format 2"):
        Receipts(store, "runs/r/receipts/embed").find("p")


def test_attempts_count_what_was_begun_and_what_was_begun_again(store: ObjectStore) -> None:
    for _ in range(2):
        checkpoint = Checkpoint(store, "r", "p", embed_receipts(store, "r"))
        checkpoint.begin(0)
    checkpoint.begin(1)
    assert count_attempts(store, "r") == (3, 2)
