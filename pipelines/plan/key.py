"""A partition's key: what an object's path or modification date says of every document in it. Reads no bodies."""

from __future__ import annotations

import datetime
import re
from difflib import get_close_matches
from urllib.parse import unquote

from pipelines.errors import SettingsError
from pipelines.plan.listing import Listing
from pipelines.plan.pattern import PathPattern, calendar
from pipelines.plan.settings import MODIFIED, PartitionSettings

Key = tuple[tuple[str, str], ...]
_HIVE = re.compile(r"(?:^|(?<=/))([A-Za-z_][A-Za-z0-9_]*)=([^/]*)/")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_DAY = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?")
_CALENDAR = ("year", "month", "day")


def group_by_key(listing: Listing, settings: PartitionSettings) -> dict[Key, list[int]]:
    """Row numbers of the listing by partition key, each in the listing's order.

    Values are texts; year, month and day read ``2024``, ``2024-05``, ``2024-05-17`` wherever they come from.
    A value that hive writes for null is left out of the key.

    Raises:
        SettingsError: ``by`` names what no path offers, or some objects do not.
    """
    if not settings.by:
        return {(): list(range(len(listing)))}
    pattern = PathPattern(settings.path) if settings.path is not None else None
    read = _KeyReader(settings.by, pattern)
    groups: dict[Key, list[int]] = {}
    strangers: list[str] = []
    keys, modified = listing.column("key"), listing.column("modified_ms")
    for row, (key, modified_ms) in enumerate(zip(keys, modified, strict=True)):
        found = read(key, modified_ms)
        if found is None:
            strangers.append(key)
        else:
            groups.setdefault(found, []).append(row)
    if strangers:
        raise SettingsError(_refusal(settings, pattern, keys, strangers))
    return groups


class _KeyReader:
    """The key of one object; None when its path does not say what ``by`` asks for."""

    def __init__(self, by: tuple[str, ...], pattern: PathPattern | None) -> None:
        self._by = by
        self._pattern = pattern
        self._dated = [name for name in by if name in MODIFIED]
        self._hive = bool(set(by) - set(MODIFIED) - set(pattern.offers if pattern else ()))
        self._known: dict[object, Key | None] = {}

    def __call__(self, key: str, modified_ms: int) -> Key | None:
        groups = self._pattern.groups(key) if self._pattern else ()
        if groups is None:
            return None
        hive = tuple(_HIVE.findall(key)) if self._hive else ()
        day = modified_ms // 86_400_000 if self._dated else 0
        raw = (groups, hive, day)
        if raw not in self._known:  # the paths of a corpus repeat: interpret each kind once
            self._known[raw] = self._key(groups, hive, day)
        return self._known[raw]

    def _key(self, groups: tuple[str, ...], hive: tuple[tuple[str, str], ...], day: int) -> Key | None:
        values = hive_values(hive)
        if self._pattern:
            read = self._pattern.values(groups)
            if read is None:
                return None
            values.update(read)
        if self._dated:
            modified = (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
            values.update(zip(MODIFIED, (modified[:4], modified[:7], modified), strict=True))
        if any(name not in values for name in self._by):
            return None
        return tuple((name, values[name]) for name in self._by if values[name] != _HIVE_NULL)


def hive_values(segments: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Values of ``name=value`` folders, with percent-escapes undone and the calendar read in ISO form."""
    values = {name: unquote(text) for name, text in segments}
    dated = _DAY.fullmatch(values.get("date", ""))
    parts = dict(zip(_CALENDAR, dated.groups(), strict=True)) if dated else {}
    parts.update({name: values[name] for name in _CALENDAR if values.get(name, "").isdecimal()})
    return {**values, **(calendar(parts) or {})}


def _refusal(settings: PartitionSettings, pattern: PathPattern | None, keys: list[str], strangers: list[str]) -> str:
    if pattern and (stranger := next((key for key in strangers if _unread(pattern, key)), None)):
        count = sum(_unread(pattern, key) for key in strangers)
        return (
            f"{count:,} of {len(keys):,} objects do not match partition.path {settings.path!r}, such as "
            f"{stranger!r}; leave them out with source.exclude, or widen the pattern"
        )
    hive = {name for key in keys[:1000] + strangers[:1000] for name in hive_values(tuple(_HIVE.findall(key)))}
    offered = sorted({*hive, *(pattern.offers if pattern else ())})
    for name in settings.by:
        if name not in offered and name not in MODIFIED:
            return _unknown(name, offered)
    return (
        f"{len(strangers):,} of {len(keys):,} objects lack a folder for partition.by {list(settings.by)}, such as "
        f"{strangers[0]!r}; leave them out with source.exclude, or take the name out of partition.by"
    )


def _unread(pattern: PathPattern, key: str) -> bool:
    groups = pattern.groups(key)
    return groups is None or pattern.values(groups) is None


def _unknown(name: str, offered: list[str]) -> str:
    close = get_close_matches(name, [*offered, *MODIFIED], n=1)
    return (
        f"partition.by names {name!r}, which the objects' paths do not offer"
        + (f" (did you mean {close[0]!r}?)" if close else "")
        + "; a key known only from the fields of records cannot partition, since no body is read to plan. "
        + f"The paths offer: {', '.join(offered) or 'nothing'}; the modification date offers: {', '.join(MODIFIED)}. "
        + "Name it in partition.path, such as {doc_type}/{date:%Y-%m}/**, or use folders such as year=2024/"
    )
