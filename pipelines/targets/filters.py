"""Typed conditions on the fields of rows, and which fields take which. Knows no index's language."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.errors import QueryRefused

METADATA = "metadata."
KEYWORDS = ("doc_type", "tenant", "document_id", "partition")
# What a value may be, by the type of its field; a keyword may be anything.
_VALUES = {
    "number": re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?([eE][+-]?\d{1,3})?"),
    "date": re.compile(r"\d{4}(-\d\d(-\d\d(T[\d:.]{1,20}(Z|[+-]\d\d:?\d\d)?)?)?)?"),
    "boolean": re.compile("true|false"),
}
_ORDERED = ("number", "date")


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows whose ``field`` has one of the values ``any_of``, or else lies between two, both included; None: no bound.

    Values are text, written as the field's type has them: ``4.5``, ``2024-05``, ``true``. A row without the field never
    passes."""

    field: str
    any_of: tuple[str, ...] = ()
    at_least: str | None = None
    at_most: str | None = None

    def values(self) -> tuple[str, ...]:
        return (*self.any_of, *(bound for bound in (self.at_least, self.at_most) if bound is not None))


def equals(field: str, value: str) -> Filter:
    return Filter(field, (value,))


def filter_types(metadata: Mapping[str, str]) -> dict[str, str]:
    """Type of each field that a filter may name: keyword, number, date or boolean. ``metadata`` are those of the
    metadata fields."""
    fields = dict.fromkeys(KEYWORDS, "keyword") | {"date": "date"}
    return fields | {f"{METADATA}{name}": kind for name, kind in metadata.items()}


def check_filters(filters: Sequence[Filter], types: Mapping[str, str]) -> None:
    """Raises QueryRefused naming the field, what it takes and what was found."""
    for wanted in filters:
        kind = types.get(wanted.field)
        if kind is None:
            raise QueryRefused(f"cannot filter by {wanted.field!r}; filter by one of {', '.join(types)}")
        bounded = wanted.at_least is not None or wanted.at_most is not None
        if bounded == bool(wanted.any_of):
            raise QueryRefused(f"the filter of {wanted.field} needs either values, or a lower or upper bound")
        if bounded and kind not in _ORDERED:
            raise QueryRefused(f"{wanted.field} is a {kind} and has no order; filter it by values")
        for value in wanted.values():
            if kind in _VALUES and not _VALUES[kind].fullmatch(value):
                raise QueryRefused(f"{wanted.field} is a {kind}, which {value[:80]!r} is not")
