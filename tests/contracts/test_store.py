"""What every Store promises, on memory, files and a real S3 API."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex

import pytest
from obstore.store import LocalStore, MemoryStore

from pipelines.errors import NotFound, SourceChanged, StoreError
from pipelines.pages import hex_cuts
from pipelines.storage import s3_backend
from pipelines.store import BLOCK_BYTES, Created, ObjectStore, Store, open_store
from tests.fixtures.s3 import S3Server

ODD_KEYS = ["a b", "ü/é", "x#y", "p%20q", "p%q", "a+b", "a&b=c", "q?r", "c:d", "[x]", "a~b", "😀", "e\u0301", "..x"]


@pytest.fixture(params=["memory", "file", "s3", "s3-prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield open_store(f"memory://{token_hex(8)}")
    elif request.param == "file":
        yield open_store(tmp_path.as_uri())
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        bucket = server.new_bucket()
        yield open_store(bucket.uri + ("/some/prefix" if request.param == "s3-prefix" else ""), bucket.storage)


@pytest.fixture(params=["memory", "file", "s3", "s3-prefix"])
def paged(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store that lists four objects at a time."""
    if request.param == "memory":
        return ObjectStore(MemoryStore(), "memory://paged", listing_page=4)
    if request.param == "file":
        return ObjectStore(LocalStore(tmp_path), tmp_path.as_uri(), listing_page=4)
    bucket = request.getfixturevalue("s3_server").new_bucket()
    prefix = "some/prefix" if request.param == "s3-prefix" else ""
    return ObjectStore(s3_backend(bucket.name, prefix, bucket.storage), bucket.uri, listing_page=4)


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def test_bytes_come_back_as_they_were_put(store: Store) -> None:
    store.put("a/b", b"first")
    store.put("a/b", b"second")
    assert store.get("a/b") == b"second"


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert list(store.stream("empty")) == []
    assert store.head("empty").size == 0


@pytest.mark.parametrize(("start", "end", "expected"), [
    (0, 4, b"0123"), (3, 5, b"34"), (8, 99, b"89"), (10, None, b""), (50, 99, b""), (5, 5, b""), (7, None, b"789"),
])  # fmt: skip
def test_a_range_is_cut_as_python_cuts_a_slice(store: Store, start: int, end: int | None, expected: bytes) -> None:
    store.put("digits", b"0123456789")
    assert store.get("digits", start=start, end=end) == expected


def test_a_stream_gives_the_bytes_from_start_on_in_blocks(store: Store) -> None:
    data = bytes(range(256)) * (3 * BLOCK_BYTES // 256)
    store.put("big", data)
    blocks = list(store.stream("big", start=100))
    assert b"".join(blocks) == data[100:]
    assert max(map(len, blocks)) < len(data)


def test_head_says_what_the_listing_says(store: Store) -> None:
    store.put("a/b", b"12345")
    (listed,) = store.list()
    assert store.head("a/b") == listed
    assert (listed.key, listed.size) == ("a/b", 5)
    assert listed.etag


def test_reads_hold_under_the_listed_etag(store: Store) -> None:
    store.put("k", b"12345")
    etag = store.head("k").etag
    assert store.get("k", if_match=etag, start=1, end=3) == b"23"
    assert b"".join(store.stream("k", if_match=etag)) == b"12345"


def test_an_overwritten_object_has_changed(store: Store) -> None:
    store.put("k", b"12345")
    etag = store.head("k").etag
    store.put("k", b"1234567")
    with pytest.raises(SourceChanged, match="k changed since it was listed; plan again"):
        store.get("k", if_match=etag)
    with pytest.raises(SourceChanged, match="plan again"):
        list(store.stream("k", if_match=etag))


def test_an_object_that_was_listed_and_is_gone_has_changed(store: Store) -> None:
    store.put("k", b"12345")
    etag = store.head("k").etag
    store.delete(["k"])
    with pytest.raises(SourceChanged, match="plan again"):
        store.get("k", if_match=etag)
    with pytest.raises(SourceChanged, match="plan again"):
        list(store.stream("k", if_match=etag))


def test_a_missing_object_is_named_by_its_full_uri(store: Store) -> None:
    for read in (store.get, store.head, lambda key: list(store.stream(key))):
        with pytest.raises(NotFound) as caught:
            read("no/such key")
        assert f"{store.uri}/no/such key does not exist" in str(caught.value)


def test_a_prefix_is_a_plain_string(store: Store) -> None:
    for key in ("a/b", "a/bc/d", "a/c", "ab", "b/a"):
        store.put(key, b"x")
    assert sorted(keys(store, "a/b")) == ["a/b", "a/bc/d"]
    assert sorted(keys(store, "a/")) == ["a/b", "a/bc/d", "a/c"]
    assert sorted(keys(store, "a")) == ["a/b", "a/bc/d", "a/c", "ab"]
    assert keys(store, "zzz") == []
    assert keys(store, "zzz/y/") == []


def test_a_page_of_a_listing_is_in_key_order(store: Store) -> None:
    names = ["b", "a/c", "a", "a-b", "é", "Z"]
    for name in names:
        store.put(f"in/{name}" if name != "a" else "in/a0", b"x")
    listed = keys(store)
    assert listed == sorted(listed, key=str.encode)


def test_a_listing_read_side_by_side_is_the_listing(paged: ObjectStore) -> None:
    names = [f"in/{number:02x}{rest}" for number in range(0, 256, 11) for rest in (".json", "ü/x")]
    for name in [*names, "in/finished/1", "in.txt", "in0/a", "i"]:
        paged.put(name, b"x")
    plain = sorted(paged.list("in/"), key=lambda found: found.key)
    assert [found.key for found in plain] == sorted([*names, "in/finished/1"])
    for cuts in (
        hex_cuts("in"),
        [names[9]],  # a cut is a key itself
        ["in/z", "in/8", "in/8", "in/3"],  # in no order, twice, behind everything
        ["a", "in/", "in/00.json", "zzz"],  # all of it lies between two, others are outside
    ):
        assert sorted(paged.list("in/", cuts=cuts), key=lambda found: found.key) == plain, cuts
    assert sorted(found.key for found in paged.list("in/0", cuts=["in/05"])) == [
        "in/00.json",
        "in/00ü/x",
        "in/0b.json",
        "in/0bü/x",
    ]


def test_what_begins_with_a_prefix_that_is_no_folder_is_listed_once(paged: ObjectStore) -> None:
    behind = [f"a/b{number}" for number in range(7)]
    for key in ["a/a", "a/ab", "a/b", *behind, "a/c", "b"]:
        paged.put(key, b"x")
    assert sorted(keys(paged, "a/b")) == ["a/b", *behind]
    assert sorted(keys(paged, "a/b3")) == ["a/b3"]
    assert keys(paged, "a/bb") == []


def test_an_empty_root_lists_nothing(store: Store) -> None:
    assert keys(store) == []


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_is_kept_letter_by_letter(store: Store, key: str) -> None:
    store.put(f"d/{key}", b"v")
    assert store.get(f"d/{key}") == b"v"
    assert keys(store, f"d/{key}") == keys(store) == [f"d/{key}"]
    assert store.head(f"d/{key}").size == 1
    store.delete([f"d/{key}"])
    assert keys(store) == []


@pytest.mark.parametrize("key", ["a//b", "a/../b", "a/./b", "tab\tx", "new\nline"])
def test_a_key_that_no_backend_agrees_on_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="cannot hold or read such a key; rename it"):
        store.put(key, b"v")


def test_a_create_wins_where_nothing_was(store: Store) -> None:
    assert store.create("r", b"mine") is Created.WON
    assert store.get("r") == b"mine"


def test_a_create_over_other_bytes_loses_and_leaves_them(store: Store) -> None:
    store.create("r", b"mine")
    assert store.create("r", b"theirs") is Created.LOST
    assert store.get("r") == b"mine"


def test_a_create_over_equal_bytes_has_won(store: Store) -> None:
    store.create("r", b"mine")
    assert store.create("r", b"mine") is Created.WON


def test_one_of_eight_racing_creates_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def race(number: int, key: str) -> Created:
        barrier.wait(10)
        return store.create(key, b"attempt %d" % number)

    with ThreadPoolExecutor(8) as pool:
        for round_number in range(5):
            key = f"race/{round_number}"
            outcomes = list(pool.map(race, range(8), [key] * 8))
            assert outcomes.count(Created.WON) == 1
            assert store.get(key) == b"attempt %d" % outcomes.index(Created.WON)


def test_deleting_what_is_absent_is_no_error_and_spares_the_rest(store: Store) -> None:
    for key in ("a", "b", "c"):
        store.put(key, b"x")
    store.delete(iter(["absent", "a", "also/absent", "b"]))
    assert keys(store) == ["c"]


def test_deleting_nothing_is_no_error(store: Store) -> None:
    store.delete([])
