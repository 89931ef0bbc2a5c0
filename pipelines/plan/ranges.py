"""Ranges of one big object: which objects may be cut, and where. Knows no partitions and reads nothing itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipelines.read.decompress import compression_of
from pipelines.read.reader import SourceSettings

Range = tuple[int, int | None]
"""[start, end) in bytes, or in row groups of Parquet. End None: to the end of the object."""

_LEAST_TAIL = 4  # a last range under a quarter of a step joins the one before it


def why_uncuttable(key: str, source: SourceSettings) -> str | None:
    """Why an object of this format cannot be cut into ranges, in the words of a note; None when it can."""
    if source.format == "parquet":
        return None
    if compression := compression_of(key):
        return f"{compression} objects must be read from their beginning; store them smaller or uncompressed"
    if source.format in ("text", "markdown"):
        return f"a {source.format} object is one document"
    if source.format in ("csv", "tsv") and source.quoted_newlines:
        return (
            "a quoted field may hold a newline; set source.quoted_newlines: false if none does, or store them smaller"
        )
    return None


def byte_ranges(size: int, target_bytes: float) -> list[Range]:
    """Ranges at multiples of a power of two near ``target_bytes``: a grown object keeps its first ranges, and
    so does one whose estimate moved a little."""
    step = 2 ** max(0, round(math.log2(max(1.0, target_bytes))))
    starts = list(range(0, size, step))
    if len(starts) > 1 and (size - starts[-1]) * _LEAST_TAIL < step:
        starts.pop()
    return _ranges(starts)


def row_group_ranges(sizes: Sequence[int], target_bytes: float) -> list[Range]:
    """Runs of row groups (``sizes`` in bytes) that reach ``target_bytes``, filled from the object's beginning."""
    starts, filled = [0], 0
    for number, size in enumerate(sizes):
        if filled and filled + size / 2 > target_bytes:
            starts.append(number)
            filled = 0
        filled += size
    return _ranges(starts)


def _ranges(starts: list[int]) -> list[Range]:
    return list(zip(starts, [*starts[1:], None], strict=True))
