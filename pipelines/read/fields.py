"""The values of one record, checked against what the settings declare. Knows no format and no document."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

from pipelines.document import Scalar

_NAMES_SHOWN = 20
_MONTH = re.compile(r"\d{4}(-(0[1-9]|1[0-2]))?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 400  # characters; Python refuses to read whole numbers of thousands
_ODD_SHARE = 0.05  # UTF-16 read as UTF-8 is half of NUL; a page of a good PDF has a stray one
_INT64 = range(-(2**63), 2**64)


class FieldError(Exception):
    """A record that is no document; ``cause`` is a word of pipelines.rejects."""

    def __init__(self, cause: str, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause
        self.reason = reason


class Fields:
    """Every method takes the declared name, None for a field that is not declared, and raises FieldError."""

    def __init__(self, values: dict[str, Any]) -> None:  # Any: as the format gives them
        self._values = values

    def missing(self, name: str) -> str:
        if name in self._values:
            return f"field {name!r} is {'empty' if self._values[name] == '' else 'null'}"
        names = sorted(map(str, self._values))
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        found = ", ".join(names[:_NAMES_SHOWN]) or "no fields"
        return f"there is no field {name!r}; the record has {found}{more}"

    def required_id(self, name: str) -> str:
        found = self.label(name)
        if found is None:
            raise FieldError("missing_field", self.missing(name))
        return found

    def required_text(self, name: str) -> str:
        value = self._get(name)
        if value is None:
            raise FieldError("missing_field", self.missing(name))
        if not isinstance(value, str):
            raise FieldError("not_text", f"field {name!r} is {_kind(value)}, not a text")
        if not value:
            raise FieldError("empty_text", f"field {name!r} is empty")
        if not value.strip():
            raise FieldError("blank_text", f"field {name!r} holds nothing but whitespace")
        odd = value.count("\0") + value.count("\ufffd")  # searches for one character each: next to nothing
        if odd > len(value) * _ODD_SHARE:
            raise FieldError("not_text", f"field {name!r} is {odd / len(value):.0%} NUL or replacement characters, as binary "
                             "data and texts read in another encoding are")  # fmt: skip
        return _encodable(value, name)

    def text(self, name: str | None) -> str | None:
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise FieldError("wrong_type", f"field {name!r} is {_kind(value)}, not a text")
        return _encodable(value, name)

    def label(self, name: str | None) -> str | None:
        """A short text; whole numbers are spelled out, an empty one is none."""
        value = self._get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise FieldError("wrong_type", f"field {name!r} is {_kind(value)}, not a text or a whole number")
        return _encodable(str(value), name)

    def date(self, name: str | None) -> str | None:
        """ISO 8601, as every index reads it: a day, an instant, or a month or year alone."""
        value = self._get(name)
        if value is None or value == "":
            return None
        if isinstance(value, datetime.date):  # a datetime is one too
            return value.isoformat()
        if not isinstance(value, str):
            raise FieldError("wrong_type", f"field {name!r} is {_kind(value)}, not an ISO 8601 date")
        value = value.strip()
        if _MONTH.fullmatch(value):
            return value
        try:
            return _iso(value)
        except ValueError as error:
            raise FieldError("wrong_type", f"field {name!r} is {value[:40]!r}, not an ISO 8601 date") from error

    def metadata(self, types: Mapping[str, str]) -> dict[str, Scalar]:
        """The declared fields that have a value, each as its type spells it."""
        read = {"keyword": self._scalar, "number": self._number, "date": self.date, "boolean": self._boolean}
        found = {name: read[kind](name) for name, kind in types.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _number(self, name: str) -> Scalar:
        """CSV knows texts alone, so a text that spells a number is one, and an empty text is none."""
        value = self._get(name)
        if isinstance(value, str):
            text = value.strip()
            if not text:
                return None
            if len(text) > _LONGEST_NUMBER or not _DECIMAL.fullmatch(text):
                raise FieldError("wrong_type", f"field {name!r} is {text[:40]!r}, not a number")
            value = int(text) if _WHOLE.fullmatch(text) else float(text)
        elif isinstance(value, bool) or not isinstance(value, int | float | None):
            raise FieldError("wrong_type", f"field {name!r} is {_kind(value)}, not a number")
        return _storable(value, name)

    def _boolean(self, name: str) -> Scalar:
        value = self._get(name)
        if isinstance(value, str):
            text = value.strip().lower()
            if text not in ("", "true", "false"):
                raise FieldError("wrong_type", f"field {name!r} is {value[:40]!r}, not true or false")
            return text == "true" if text else None
        if value is not None and not isinstance(value, bool):
            raise FieldError("wrong_type", f"field {name!r} is {_kind(value)}, not a boolean")
        return value

    def _scalar(self, name: str) -> Scalar:
        value = self._get(name)
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        if isinstance(value, str):
            return _encodable(value, name)
        if value is None or isinstance(value, bool | int | float):
            return _storable(value, name)
        raise FieldError("wrong_type", f"field {name!r} is {_kind(value)}; metadata holds texts, numbers and booleans")

    def _get(self, name: str | None) -> Any:  # Any: as the format gives it
        return None if name is None else self._values.get(name)


def _iso(value: str) -> str:
    if len(value) <= len("2024-W01-1"):
        return datetime.date.fromisoformat(value).isoformat()
    return datetime.datetime.fromisoformat(value).isoformat()


def _storable(value: float | None, name: str) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError("wrong_type", f"field {name!r} is {value}, which no index can hold")
    if isinstance(value, int) and value not in _INT64:
        raise FieldError("wrong_type", f"field {name!r} is a whole number of more than 64 bits")
    return value


def _encodable(value: str, name: str | None) -> str:
    """Half a surrogate pair is a str in Python, but no text that can be stored."""
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise FieldError("encoding", f"field {name!r} holds half a surrogate pair at {error.start}") from error
    return value


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a whole number", float: "a number", dict: "an object", list: "a list",
             bytes: "bytes", str: "a text"}  # fmt: skip
    return names.get(type(value), f"of type {type(value).__name__}")
