"""Typed conditions on the fields of rows, and which fields take which. Knows no index's language."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time

from pipelines.errors import QueryRefused

METADATA = "metadata."
KEYWORDS = ("doc_type", "tenant", "document_id", "partition")
_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(
    r"(?P<day>[0-9]{4}(-[0-9]{2}){0,2})(?P<time>T[0-9]{2}(:[0-9]{2}){0,2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
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
            if not _MAY_BE[kind](value):
                raise QueryRefused(f"{wanted.field} is a {kind}, which {value[:80]!r} is not")


def _is_number(value: str) -> bool:
    return bool(_NUMBER.fullmatch(value)) and math.isfinite(float(value))


def _is_date(value: str) -> bool:
    """A year, a month, a day or an instant, which the index then takes for what lies within it."""
    found = _DATE.fullmatch(value)
    if not found or (found["time"] and len(found["day"]) != len("2024-05-01")):
        return False
    try:
        datetime.fromisoformat((found["day"] + "-01-01")[:10])
        time.fromisoformat((found["time"] or "T00")[1:].replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


# A keyword may be anything.
_MAY_BE: dict[str, Callable[[str], bool]] = {
    "keyword": lambda value: True,
    "number": _is_number,
    "date": _is_date,
    "boolean": lambda value: value in ("true", "false"),
}
