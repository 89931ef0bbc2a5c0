"""Rows as the lines of a bulk body, and bodies of bounded size. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Body:
    """Lines as one request has them, in one buffer: a line's own bytes are let go of as soon as they are in it, so that the
    next line's take the same memory while it is in the processor's cache. ``rows[i]`` is (id, document id, number) of the
    i-th line, which ends before ``ends[i]``."""

    rows: list[tuple[str, str, int]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, line: Line) -> None:
        self.rows.append(line[:3])
        self.data += line.action
        self.data += line.document
        self.ends.append(len(self.data))

    def only(self, numbers: Iterable[int]) -> Body:
        """Of its lines those of these numbers."""
        made = Body()
        for number in numbers:
            made.rows.append(self.rows[number])
            made.data += self.data[self.ends[number - 1] if number else 0 : self.ends[number]]
            made.ends.append(len(made.data))
        return made

    def halves(self) -> list[Body]:
        middle = len(self) // 2
        return [self.only(half) for half in (range(middle), range(middle, len(self))) if half]


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


def pack(lines: Iterable[Line], max_bytes: Callable[[], int], max_rows: int = MAX_ROWS) -> Iterator[Body]:
    """Bodies of at most ``max_bytes`` (asked anew for each body) and ``max_rows``; a longer line goes alone."""
    body, bound = Body(), max_bytes()
    for line in lines:
        size = len(body.data) + len(line.action) + len(line.document)
        if body.rows and (size > bound or len(body) >= max_rows):
            yield body
            body, bound = Body(), max_bytes()
        body.add(line)
    if body.rows:
        yield body
