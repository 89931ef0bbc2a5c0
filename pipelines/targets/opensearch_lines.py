"""Rows as the lines of a bulk body, and bodies of bounded size. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from pipelines.parts import rows_of, vectors_of
from pipelines.targets.opensearch_mapping import VECTOR
from pipelines.targets.target import DeadLetter

MAX_ROWS = 5_000


class Line(NamedTuple):
    """One action with its document, as they go over the wire."""

    id: str
    document_id: str
    number: int  # of the row within its partition
    action: bytes
    document: bytes = b""

    @property
    def size(self) -> int:
        return len(self.action) + len(self.document)


def index_lines(table: pa.Table, refuse: Callable[[DeadLetter], None]) -> Iterator[Line]:
    """The rows of a table as ``index`` actions; orjson prints each vector from the array's own memory.

    A vector with NaN or infinity goes to ``refuse``: JSON cannot spell it.
    """
    vectors = np.ascontiguousarray(vectors_of(table))
    finite = np.isfinite(vectors).min(axis=1, initial=True).tolist()
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    for i, row in enumerate(rows_of(table)):
        if not finite[i]:
            letter = DeadLetter(
                row["id"], row["document_id"], row["number"], "bad_vector", "the vector holds NaN or infinity"
            )
            refuse(letter)
            continue
        row[VECTOR] = vectors[i]
        action = orjson.dumps({"index": {"_id": row["id"]}}, option=orjson.OPT_APPEND_NEWLINE)
        yield Line(row["id"], row["document_id"], row["number"], action, orjson.dumps(row, option=options))


def delete_lines(ids: Iterable[str]) -> Iterator[Line]:
    return (
        Line(each, "", -1, orjson.dumps({"delete": {"_id": each}}, option=orjson.OPT_APPEND_NEWLINE)) for each in ids
    )


def pack(lines: Iterable[Line], max_bytes: Callable[[], int], max_rows: int = MAX_ROWS) -> Iterator[list[Line]]:
    """Bodies of at most ``max_bytes`` (asked anew for each body) and ``max_rows``; a longer line goes alone."""
    body: list[Line] = []
    size, bound = 0, max_bytes()
    for line in lines:
        more = len(line.action) + len(line.document)
        if body and (size + more > bound or len(body) >= max_rows):
            yield body
            body, size, bound = [], 0, max_bytes()
        body.append(line)
        size += more
    if body:
        yield body


def join(lines: Iterable[Line]) -> bytes:
    return b"".join(each for line in lines for each in (line.action, line.document))
