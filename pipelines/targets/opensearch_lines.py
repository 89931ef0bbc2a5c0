"""Rows as the lines of a bulk body, and bodies of bounded size. Sends nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from pipelines.parts import rows_of, vectors_of
from pipelines.targets.opensearch_mapping import VECTOR
from pipelines.targets.opensearch_smile import spell_smile
from pipelines.targets.target import DeadLetter, IndexSettings

MAX_ROWS = 5_000

Row = tuple[str, str, int]  # id, document id, number within its partition


class Lines(NamedTuple):
    """Actions with their documents, as they go over the wire: ``rows[i]`` is what the i-th is about, and it ends before
    ``ends[i]``."""

    rows: list[Row]
    ends: list[int]
    data: bytearray | memoryview


@dataclass(slots=True)
class Body:
    """The same as one request has them, in one buffer that grows."""

    rows: list[Row] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, lines: Lines, start: int, stop: int) -> None:
        """Those from ``start`` until before ``stop``."""
        begin, end = _begin(lines.ends, start), _begin(lines.ends, stop)
        moved = len(self.data) - begin
        self.rows += lines.rows[start:stop]
        self.ends += [each + moved for each in lines.ends[start:stop]]
        self.data += memoryview(lines.data)[begin:end]

    def only(self, numbers: Iterable[int]) -> Body:
        """Of its lines those of these numbers."""
        made, mine = Body(), Lines(self.rows, self.ends, self.data)
        for number in numbers:
            made.add(mine, number, number + 1)
        return made

    def halves(self) -> list[Body]:
        middle = len(self) // 2
        return [self.only(half) for half in (range(middle), range(middle, len(self))) if half]


class Form(NamedTuple):
    """How lines are spelled: what HTTP calls it, of how many bytes a table is best, and the data and ends of its lines."""

    content_type: str
    table_bytes: int
    spell: Callable[[pa.Table], tuple[bytearray | memoryview, list[int]]]


def spell_json(table: pa.Table) -> tuple[bytearray, list[int]]:
    """orjson prints each vector from the array's own memory."""
    vectors = np.ascontiguousarray(vectors_of(table))
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    data, ends = bytearray(), []
    for row, vector in zip(rows_of(table), vectors, strict=True):
        row[VECTOR] = vector
        # A line's own bytes are let go of before the next line's, which take the same memory while it is in the cache.
        data += orjson.dumps({"index": {"_id": row["id"]}}, option=orjson.OPT_APPEND_NEWLINE)
        data += orjson.dumps(row, option=options)
        ends.append(len(data))
    return data, ends


JSON = Form("application/json", 128 << 10, spell_json)  # its lines stay in the processor's cache until a body has them
SMILE = Form("application/smile", 2 << 20, spell_smile)  # so many rows that it hardly counts what a column costs


def form_for(settings: IndexSettings) -> Form:
    """SMILE takes a quarter of JSON's CPU to spell; an index that keeps vectors out of its source cannot read it (3.5)."""
    return SMILE if settings.derived_source is False else JSON


def index_lines(table: pa.Table, form: Form, refuse: Callable[[DeadLetter], None]) -> Iterator[Lines]:
    """The rows of a table as ``index`` actions.

    A vector with NaN or infinity goes to ``refuse``: JSON cannot spell it, and no index takes it.
    """
    finite = np.isfinite(vectors_of(table)).all(axis=1)
    if not finite.all():
        for row in _rows(table.filter(~finite)):
            refuse(DeadLetter(*row, "bad_vector", "the vector holds NaN or infinity"))
        table = table.filter(finite)
    at_once = max(1, table.num_rows * form.table_bytes // max(1, table.nbytes))
    for start in range(0, table.num_rows, at_once):
        some = table.slice(start, at_once)
        data, ends = form.spell(some)
        yield Lines(_rows(some), ends, data)


def delete_lines(ids: Iterable[str]) -> Iterator[Lines]:
    """In JSON."""
    for each in ids:
        data = orjson.dumps({"delete": {"_id": each}}, option=orjson.OPT_APPEND_NEWLINE)
        yield Lines([(each, "", -1)], [len(data)], bytearray(data))


def pack(blocks: Iterable[Lines], max_bytes: Callable[[], int], max_rows: int = MAX_ROWS) -> Iterator[Body]:
    """Bodies of at most ``max_bytes`` (asked anew for each body) and ``max_rows``; a longer line goes alone."""
    body, bound = Body(), max_bytes()
    for lines in blocks:
        start = 0
        while start < len(lines.rows):
            room = _begin(lines.ends, start) + bound - len(body.data)
            stop = bisect_right(lines.ends, room, start, min(len(lines.rows), start + max_rows - len(body)))
            if stop == start and body.rows:
                yield body
                body, bound = Body(), max_bytes()
                continue
            stop = max(stop, start + 1)
            body.add(lines, start, stop)
            start = stop
    if body.rows:
        yield body


def _begin(ends: Sequence[int], number: int) -> int:
    """Where the line of this number begins."""
    return ends[number - 1] if number else 0


def _rows(table: pa.Table) -> list[Row]:
    """to_pylist takes four times longer."""
    return list(zip(*(table[name].to_numpy().tolist() for name in ("id", "document_id", "number")), strict=True))
