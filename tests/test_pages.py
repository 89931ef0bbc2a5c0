"""Ranges of keys are read at the same time, a page each, and nothing of it outlives the listing."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pipelines.errors import StoreError
from pipelines.pages import hex_cuts
from pipelines.receipts import Receipts
from pipelines.store import ObjectStore

KEYS = [f"d/{number:03x}.json" for number in range(0, 4096, 8)]
_MODIFIED = datetime(2026, 11, 1, tzinfo=UTC)


class Listed:
    """obstore's ``list`` over ``KEYS``. ``meet`` is called before each page with where its listing began."""

    def __init__(self, meet: Any = lambda after: None) -> None:
        self.requests: list[str | None] = []
        self._meet = meet

    def list(self, backend: Any, folder: str | None, *, offset: str | None, chunk_size: int) -> Iterator[Any]:
        self.requests.append(offset)
        at = bisect.bisect_right(KEYS, offset or "")
        while at < len(KEYS):
            self._meet(offset)
            yield [{"path": key, "size": 1, "e_tag": '"e"', "last_modified": _MODIFIED, "version": None}
                   for key in KEYS[at : at + chunk_size]]  # fmt: skip
            at += chunk_size


def _store(api: Listed, *, page: int = 8, deadline_s: float = 60.0) -> ObjectStore:
    return ObjectStore(object(), "s3://listed", listing_page=page, api=api, deadline_s=deadline_s)  # type: ignore[arg-type]


def test_sixteen_pages_are_under_way_at_once() -> None:
    barrier = threading.Barrier(16)
    met = set()

    def meet(after: str | None) -> None:
        if after and after not in met:
            met.add(after)
            barrier.wait(10)  # broken, and so raised, unless sixteen come

    found = [entry.key for entry in _store(Listed(meet)).list("d/", cuts=hex_cuts("d"))]
    assert sorted(found) == KEYS
    assert barrier.n_waiting == 0
    assert len(met) == 16


def test_receipts_are_listed_in_sixteen_ranges() -> None:
    api = Listed()
    assert {f"d/{one}.json" for one in Receipts(_store(api), "d").committed()} == set(KEYS)
    assert len(api.requests) == 1 + 16


def test_a_listing_of_one_page_is_asked_for_once() -> None:
    api = Listed()
    assert len(list(_store(api, page=1000).list("d/", cuts=hex_cuts("d")))) == len(KEYS)
    assert api.requests == [None]


def test_a_listing_without_cuts_is_read_in_order() -> None:
    api = Listed()
    assert [entry.key for entry in _store(api).list("d/")] == KEYS
    assert api.requests == [None]


def test_the_first_error_ends_the_listing_and_the_threads() -> None:
    before = threading.active_count()

    def meet(after: str | None) -> None:
        if after == "d/9":
            raise OSError("gone")

    with pytest.raises(StoreError, match=r"s3://listed/d could not be reached for 0\.2 s"):
        list(_store(Listed(meet), deadline_s=0.2).list("d/", cuts=hex_cuts("d")))
    assert threading.active_count() == before


def test_a_listing_that_nobody_reads_on_ends_its_threads() -> None:
    before = threading.active_count()
    api = Listed()
    listing = _store(api).list("d/", cuts=hex_cuts("d"))
    for _ in range(20):
        next(listing)
    assert threading.active_count() > before
    listing.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
