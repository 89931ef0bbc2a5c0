"""Rows as the lines of a bulk body, and bodies of bounded size. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from pipelines.parts import rows_of, vectors_of
from pipelines.targets.opensearch_mapping import VECTOR
from pipelines.targets.target import DeadLetter

MAX_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Line:
    """One action with its document, as it goes over the wire."""

    id: str
    document_id: str
    number: int  # of the row within its partition
    data: bytes


def index_lines(table: pa.Table, refuse: Callable[[DeadLetter], None]) -> Iterator[Line]:
    """The rows of a table as ``index`` actions; orjson prints each vector from the array's own memory.

    A vector with NaN or infinity goes to ``refuse``: JSON cannot spell it.
    """
    vectors = np.ascontiguousarray(vectors_of(table))
    finite = np.isfinite(vectors).min(axis=1, initial=True)
    for i, row in enumerate(rows_of(table)):
        if not finite[i]:
            refuse(
                DeadLetter(
                    row["id"], row["document_id"], row["number"], "bad_vector", "the vector holds NaN or infinity"
                )
            )
            continue
        row[VECTOR] = vectors[i]
        action = orjson.dumps({"index": {"_id": row["id"]}})
        yield Line(row["id"], row["document_id"], row["number"],
                   b"%b\n%b\n" % (action, orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)))  # fmt: skip


def delete_lines(ids: Iterable[str]) -> Iterator[Line]:
    return (Line(each, "", -1, orjson.dumps({"delete": {"_id": each}}) + b"\n") for each in ids)


def pack(lines: Iterable[Line], max_bytes: Callable[[], int], max_rows: int = MAX_ROWS) -> Iterator[list[Line]]:
    """Bodies of at most ``max_bytes`` (asked anew for each line) and ``max_rows``; a longer line goes alone."""
    body: list[Line] = []
    size = 0
    for line in lines:
        if body and (size + len(line.data) > max_bytes() or len(body) >= max_rows):
            yield body
            body, size = [], 0
        body.append(line)
        size += len(line.data)
    if body:
        yield body
