"""The pattern of ``partition.path``: a glob with fields, read backwards from relative keys to values."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from pipelines.plan.globs import translate

_FIELD = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DIRECTIVES = {"Y": r"\d{4}", "m": r"\d{1,2}", "d": r"\d{1,2}"}
_CALENDAR = {"year": "Y", "month": "Ym", "day": "Ymd"}


class PathPattern:
    """``{doc_type}/{date:%Y-%m}/*``: a field matches within one segment, the rest is a glob.

    Raises:
        ValueError: a brace is not closed, a name is no word, or a date's format holds more than %Y, %m and %d.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._names: list[str] = []
        pieces, position = [], 0
        for found in _FIELD.finditer(pattern):
            pieces += [self._glob(pattern[position : found.start()]), self._field(found[1])]
            position = found.end()
        pieces.append(self._glob(pattern[position:]))
        self._match = re.compile("".join(pieces), re.DOTALL).fullmatch
        if self._dated and self._dated not in map(set, _CALENDAR.values()):
            raise ValueError(f"path {pattern!r}: a date needs its larger units too (%Y; %Y and %m; %Y, %m and %d)")

    @property
    def offers(self) -> tuple[str, ...]:
        """The names that ``by`` may use: the fields, and the calendar as far as the date's format goes."""
        names = [name for name in self._names if not name.startswith("date__")]
        calendar_names = [name for name, needs in _CALENDAR.items() if self._dated.issuperset(needs)]
        return (*names, *calendar_names, *(["date"] if calendar_names else []))

    def groups(self, key: str) -> tuple[str, ...] | None:
        """The raw texts of the fields in ``key``, or None when the pattern does not match."""
        found = self._match(key)
        return found.groups() if found else None

    def values(self, groups: tuple[str, ...]) -> dict[str, str] | None:
        """The values of one key's groups, or None when its date is no day of the calendar."""
        values = dict(zip(self._names, groups, strict=True))
        parts = {name: values.pop(f"date__{name}") for name in _DIRECTIVES if f"date__{name}" in values}
        date = calendar({name: parts.get(needs[-1]) for name, needs in _CALENDAR.items()})
        if parts and date is None:
            return None
        if date:
            values["date"] = list(date.values())[-1]
        return {**values, **(date or {})}

    @property
    def _dated(self) -> set[str]:
        return {name.removeprefix("date__") for name in self._names if name.startswith("date__")}

    def _glob(self, piece: str) -> str:
        if "{" in piece or "}" in piece:
            raise ValueError(f"path {self.pattern!r} has a brace without its partner")
        return translate(piece)

    def _field(self, body: str) -> str:
        name, _, form = body.partition(":")
        if not _NAME.fullmatch(name):
            raise ValueError(f"path {self.pattern!r}: {name!r} is no field name; use letters, digits and _")
        if not form:
            return self._group(name, "[^/]+?")
        if name != "date":
            raise ValueError(f"path {self.pattern!r}: only date takes a format, {name} does not")
        pieces = re.split("%(.)", form)
        for directive in pieces[1::2]:
            if directive not in _DIRECTIVES:
                raise ValueError(f"path {self.pattern!r}: %{directive} is not understood in a date; use %Y, %m and %d")
        pieces[::2] = map(re.escape, pieces[::2])
        pieces[1::2] = [self._group(f"date__{directive}", _DIRECTIVES[directive]) for directive in pieces[1::2]]
        return "".join(pieces)

    def _group(self, name: str, expression: str) -> str:
        if name in self._names:
            return f"(?P={name})"
        self._names.append(name)
        return f"(?P<{name}>{expression})"


def calendar(parts: Mapping[str, str | None]) -> dict[str, str] | None:
    """ISO texts of the date's year, month and day (``2024``, ``2024-05``, ``2024-05-17``) as far as they are known.

    None when they are no date. A month without its year is left out: it names no span of time.
    """
    texts = [parts.get(name) for name in _CALENDAR]
    known = [int(text) for text in texts[: texts.index(None) if None in texts else 3] if text is not None]
    try:
        day = datetime.date(*(known + [1, 1, 1][len(known) :]))
    except ValueError:
        return None
    return {name: day.isoformat()[: 4 + 3 * depth] for depth, name in enumerate(_CALENDAR) if depth < len(known)}
