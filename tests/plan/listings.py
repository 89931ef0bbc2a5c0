"""Listings for the tests of planning, made from names and sizes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.plan.listing import Listing, list_source
from pipelines.read.reader import SourceSettings
from pipelines.store import Object

MAY_17 = 1_715_904_000_000  # 2024-05-17T00:00Z


class ListedStore:
    """A Store that only lists."""

    uri = "memory://listed"

    def __init__(self, objects: list[Object]) -> None:
        self._objects = objects

    def list(self, prefix: str = "") -> Iterator[Object]:
        return iter(self._objects)


def listing_of(sizes: Mapping[str, int], *, etags: Mapping[str, str] | None = None) -> Listing:
    """A listing of objects by name and size, in the order given; ETags are made from the name."""
    objects = [Object(key, size, (etags or {}).get(key, f'"{key}"'), MAY_17) for key, size in sizes.items()]
    return list_source(ListedStore(objects), SourceSettings(uri="memory://listed"))  # type: ignore[arg-type]
