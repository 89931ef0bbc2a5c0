"""Listing an object store: page after page, on from where it broke off, or several ranges of keys side by side.

Knows keys and their order; knows neither what a key means nor how a request is made or retried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

from pipelines.errors import NotFound, StoreError

_THREADS = 16


@dataclass(frozen=True, slots=True)
class Object:
    """One listed object: key relative to the store's root, size in bytes, modified in ms since 1970."""

    key: str
    size: int
    etag: str
    modified_ms: int
    version: str | None = None

    @classmethod
    def of(cls, meta: Any) -> Object:  # Any: obstore's ObjectMeta is a TypedDict of its own
        return cls(
            key=meta["path"],
            size=meta["size"],
            etag=meta["e_tag"] or "",
            modified_ms=int(meta["last_modified"].timestamp() * 1000),
            version=meta["version"],
        )


def hex_cuts(folder: str) -> list[str]:
    """Keys that divide a folder whose names begin with hex digests into sixteen ranges of about equal length."""
    return [f"{folder}/{digit}" for digit in "123456789abcdef"]


@dataclass(frozen=True, slots=True)
class Pages:
    """How one store lists ``prefix``.

    ``request(folder, after)`` lists pages of at most ``size`` objects of a folder, whole segments as obstore does;
    ``ordered`` is whether they come in key order. ``retry`` makes a call until it answers.
    """

    uri: str
    prefix: str
    size: int
    ordered: bool
    request: Callable[[str | None, str | None], Iterator[Any]]  # Any: a sequence of obstore's ObjectMeta
    head: Callable[[str], Object]
    retry: Callable[[Callable[[], Any]], Any]

    def objects(self, cuts: Sequence[str]) -> Iterator[Object]:
        """All of them; what a first full page leaves is read side by side between ``cuts``."""
        for page in self.between(None, None):
            yield from page
            if cuts and self.ordered and len(page) >= self.size:
                reached = page[-1].key
                bounds = [reached, *(cut for cut in sorted(cuts) if cut > reached), None]
                yield from _side_by_side([self.between(after, until) for after, until in pairwise(bounds)])
                return

    def between(self, after: str | None, until: str | None) -> Iterator[list[Object]]:
        """Pages of the keys behind ``after`` and not behind ``until``, each in key order."""
        # obstore matches whole segments; ours is a plain string prefix, as in S3.
        folder, _, rest = self.prefix.rpartition("/")
        reached = after
        if rest and self.ordered and after is None:  # what begins with the prefix comes right behind the prefix
            with suppress(NotFound):
                yield [self.head(self.prefix)]
            reached = self.prefix
        pages: Iterator[Any] | None = None

        def next_page() -> Any:
            nonlocal pages
            if pages is None:
                if reached and not self.ordered:  # there is no place to go on from
                    raise StoreError(f"{self.uri}/{self.prefix}: the listing broke off; run the same command again")
                pages = self.request(folder or None, reached)
            opened, pages = pages, None  # a listing that failed would go on as if it were at its end
            page = next(opened, None)
            pages = opened
            return page

        while (page := self.retry(next_page)) is not None:
            found = sorted(map(Object.of, page), key=attrgetter("key"))
            wanted = [one for one in found if self._wants(one.key, until)]
            if wanted:
                yield wanted
            if self.ordered and found and not self._wants(found[-1].key, until):
                return  # what follows lies behind it
            reached = found[-1].key if found else reached

    def _wants(self, key: str, until: str | None) -> bool:
        return key != "" and key.startswith(self.prefix) and (until is None or key <= until)


def _side_by_side(ranges: Sequence[Iterator[list[Object]]]) -> Iterator[Object]:
    """Everything in all of them, with one page of each under way."""
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = {pool.submit(next, pages, None): pages for pages in ranges}
        while waiting:
            for answered in wait(waiting, return_when=FIRST_COMPLETED).done:
                pages = waiting.pop(answered)
                if (page := answered.result()) is not None:
                    waiting[pool.submit(next, pages, None)] = pages
                    yield from page
