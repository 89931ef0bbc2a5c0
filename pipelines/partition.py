"""A partition: the retry unit, a set of slices of listed objects under one key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.digest import digest_of


@dataclass(frozen=True, slots=True)
class Slice:
    """The range [start, end) of one listed object.

    Bytes for line formats (it owns the records whose first byte lies in it), row groups for Parquet.
    ``end`` None means to the end: the whole object when ``start`` is 0.
    """

    key: str
    etag: str
    size: int
    start: int = 0
    end: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """``id`` names its paths; ``number`` is its order in the plan and nothing else.

    ``key`` holds what the objects' path says of every document in it, such as ``{"doc_type": "faq"}``.
    """

    id: str
    number: int
    key: tuple[tuple[str, str], ...]
    slices: tuple[Slice, ...]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "number": self.number, "key": list(map(list, self.key)),
                "slices": [[s.key, s.etag, s.size, s.start, s.end, s.version] for s in self.slices]}  # fmt: skip

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Partition:
        key = tuple((name, text) for name, text in value["key"])
        return cls(value["id"], value["number"], key, tuple(Slice(*row) for row in value["slices"]))


def partition_id(key: tuple[tuple[str, str], ...], slices: tuple[Slice, ...]) -> str:
    """Digest of key, relative keys, ETags and ranges, in 32 hex digits."""
    return digest_of([key, [[s.key, s.etag, s.version, s.start, s.end] for s in slices]])[:32]
