"""Digests: the one spelling of a value (canonical JSON) and the one hash over it (SHA-256)."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from pipelines.errors import GateRefused, NewerFormat

FORMAT = 1
"""Version of plan, receipt, manifest, part and index metadata. A newer one is refused by name."""


def canonical_json(value: Any) -> bytes:  # Any: whatever JSON can spell
    """UTF-8 JSON with sorted keys and no spaces: equal values have equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_bytes(data: bytes) -> str:
    """SHA-256 in 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:  # Any: whatever JSON can spell
    """SHA-256 of the canonical JSON of ``value``, in 64 hex digits."""
    return digest_bytes(canonical_json(value))


def parse_json(data: bytes, what: str, mend: str) -> Any:  # Any: whatever JSON can spell
    """The value of ``data``, which Backhaul wrote as ``what``.

    Raises:
        GateRefused: it is no JSON any more; ``mend`` is the advice given.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise GateRefused(f"{what} is damaged ({error}). {mend}") from error


def check_format(found: object, what: str) -> None:
    """Refuse anything a later version wrote.

    Raises:
        NewerFormat: ``found`` is not the format this version reads.
    """
    if found != FORMAT:
        raise NewerFormat(
            f"{what} has format {found!r}; this Backhaul reads format {FORMAT}. "
            "Upgrade Backhaul, or plan again with --replan."
        )
