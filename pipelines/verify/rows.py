"""Compare one partition of an index with its parts, row by row, both streamed. Knows no gate and no setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.digest import digest_of
from pipelines.document import ROW_FIELDS, row_digest
from pipelines.embed.work import PartDone
from pipelines.errors import Interrupted
from pipelines.load import LoadTask, must_read_manifest
from pipelines.manifest import Entry, read_rows
from pipelines.partition import Partition
from pipelines.parts import rows_of, vectors_of
from pipelines.receipts import load_receipts
from pipelines.store import Store, open_store
from pipelines.targets.backends import open_target
from pipelines.targets.target import IndexTarget

EXAMPLES = 3
_TOLERANCE = 1e-3  # largest component-wise difference where the target does not return vectors bit for bit

MISSING, STRANGE, ALTERED, VECTOR, UNSOUND = "missing", "strange", "altered", "vector", "unsound"

Vector = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row as its part has it: row ``at`` of ``table``."""

    number: int
    id: str
    digest: str
    vector: Vector
    table: pa.Table
    at: int

    def fields(self) -> dict[str, Any]:
        return next(rows_of(self.table.slice(self.at, 1)))


@dataclass(frozen=True, slots=True)
class Found:
    """A row as the index returns it; ``key`` is what the index deletes it by."""

    number: int
    key: str
    fields: dict[str, Any]
    vector: Vector


@dataclass(frozen=True, slots=True)
class Difference:
    """``kind`` is missing, strange, altered, vector or unsound; ``key`` the row's id, that of the index where the row is
    not ours."""

    kind: str
    key: str
    number: int
    what: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.key} (row {self.number}{f', {self.what}' if self.what else ''})"


@dataclass(slots=True)
class Findings:
    """What differs in one partition: counted, with the first few of each kind in words. ``rows`` were scanned, ``dead``
    are not expected."""

    rows: int = 0
    dead: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.counts[difference.kind] += 1
        if self.counts[difference.kind] <= EXAMPLES:
            self.examples.append(str(difference))


class Comparison:
    """The parts of a run and the index they were loaded into, one partition at a time."""

    def __init__(self, task: LoadTask) -> None:
        self._task = task
        self.store = open_store(task.root, task.storage)
        self.target: IndexTarget = open_target(task.index, task.root, task.storage, task.corpus)
        self._entries = {entry.partition: entry for entry in must_read_manifest(self.store, task.run_id).entries}

    def entry(self, partition_id: str) -> Entry:
        return self._entries[partition_id]

    def differences(self, partition_id: str, findings: Findings, stopping: Callable[[], bool],
                    report: Callable[[Any], None]) -> Iterator[Difference]:  # fmt: skip
        """Every difference of a partition, ordered by row number; ``findings`` counts them as they come."""
        dead = dead_letters(self.store, self._task, partition_id)
        findings.dead = len(dead)
        wanted = self._wanted(self.entry(partition_id), dead, stopping, report)
        found = self._found(partition_id, findings)
        for difference in compare(wanted, found, partition_id, exact=self.target.exact_vectors):
            findings.add(difference)
            yield difference

    def _wanted(self, entry: Entry, dead: set[str], stopping: Callable[[], bool],
                report: Callable[[Any], None]) -> Iterator[Wanted]:  # fmt: skip
        for part, table in read_rows(self.store, entry):
            if stopping():
                raise Interrupted(f"partition {entry.partition} stopped before part {part.number}")
            vectors = vectors_of(table)
            columns = (table[name].to_pylist() for name in ("number", "id", "row_digest"))
            for i, (number, chunk_id, digest) in enumerate(zip(*columns, strict=True)):
                if chunk_id not in dead:
                    yield Wanted(number, chunk_id, digest.hex(), vectors[i], table, i)
            report(PartDone(table.num_rows, part.tokens))

    def _found(self, partition_id: str, findings: Findings) -> Iterator[Found]:
        for page in self.target.scan(self._task.generation, partition_id):
            findings.rows += len(page.rows)
            for key, row, vector in zip(page.keys, page.rows, page.vectors, strict=True):
                yield Found(row["number"], key, row, np.asarray(vector, dtype=np.float32))


class VerifyWork:
    """Count what differs in one partition. The receipt is not persisted."""

    def __init__(self, task: LoadTask) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._comparison = Comparison(task)

    def __call__(self, partition: Partition) -> dict[str, Any]:
        findings = Findings()
        for _ in self._comparison.differences(partition.id, findings, self.stopping, self.report):
            pass
        return {"partition": partition.id, "rows": findings.rows, "dead": findings.dead,
                "problems": dict(findings.counts), "examples": findings.examples}  # fmt: skip


def compare(wanted: Iterator[Wanted], found: Iterator[Found], partition: str, *, exact: bool) -> Iterator[Difference]:
    """Merge two streams ordered by row number. A row that stands in the way of a wanted one is strange, whatever it
    holds; one that has a wanted row's number and id is that row, altered or not."""
    mine, theirs = next(wanted, None), next(found, None)
    while mine is not None or theirs is not None:
        if theirs is None or (mine is not None and mine.number < theirs.number):
            assert mine is not None
            yield Difference(MISSING, mine.id, mine.number)
            mine = next(wanted, None)
            continue
        if flaw := _flaw(theirs.vector):
            yield Difference(UNSOUND, theirs.key, theirs.number, flaw)
        if mine is None or theirs.number < mine.number:
            yield Difference(STRANGE, theirs.key, theirs.number)
        elif mine.id != theirs.key:
            yield Difference(STRANGE, theirs.key, theirs.number, f"the number of {mine.id}")
        else:
            if names := _altered(mine, theirs, partition):
                yield Difference(ALTERED, mine.id, mine.number, ", ".join(names))
            if not _same_vector(mine.vector, theirs.vector, exact):
                yield Difference(VECTOR, mine.id, mine.number)
            mine = next(wanted, None)
        theirs = next(found, None)


def dead_letters(store: Store, task: LoadTask, partition_id: str) -> set[str]:
    """Chunk ids of this partition that the index refuses for good."""
    receipt = load_receipts(store, task.run_id, task.generation, task.index_uuid).find(partition_id)
    letters = task.dead_letters(store)
    return {kept.letter.id for kept in letters.read(letters.now(partition_id, receipt))}


def _altered(mine: Wanted, theirs: Found, partition: str) -> list[str]:
    """The names of the fields that differ. The digest is recomputed: the one that the index holds is a field like any
    other."""
    names = []
    if row_digest(theirs.fields) != mine.digest:
        fields = mine.fields()
        names = [name for name in ROW_FIELDS if digest_of(fields[name]) != digest_of(theirs.fields.get(name))]
    if theirs.fields.get("row_digest") != mine.digest:
        names.append("row_digest")
    if theirs.fields.get("partition") != partition:
        names.append("partition")
    return names


def _flaw(vector: Vector) -> str:
    if not np.isfinite(vector).all():
        return "a vector with NaN or infinity, or none"
    return "" if vector.any() else "a zero vector"


def _same_vector(mine: Vector, theirs: Vector, exact: bool) -> bool:
    if mine.shape != theirs.shape:
        return False
    return mine.tobytes() == theirs.tobytes() if exact else bool(np.abs(mine - theirs).max() <= _TOLERANCE)
