"""Mend one partition of a generation: delete what does not belong, load what is missing or altered. Rows that are right
are not written.

In two passes, each over all partitions that need it: a row that was moved into another partition is strange there and
missing here, and stands under one id, so that deleting must have ended before loading begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import GateRefused, Interrupted
from pipelines.load import LoadTask
from pipelines.manifest import Entry, read_rows
from pipelines.partition import Partition
from pipelines.targets.target import IndexTarget
from pipelines.verify.rows import STRANGE, UNSOUND, Comparison, Findings

_DELETED_AT_ONCE = 1_000


class RemoveWork:
    """Delete the rows of one partition that are none of its parts'. The receipt is not persisted."""

    def __init__(self, task: LoadTask) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._comparison, self._generation = Comparison(task), task.generation

    def __call__(self, partition: Partition) -> dict[str, Any]:
        deleted, keys = 0, list[str]()
        differences = self._comparison.differences(partition.id, Findings(), self.stopping, self.report)
        for difference in differences:
            if difference.kind == STRANGE:
                keys.append(difference.key)
            if len(keys) == _DELETED_AT_ONCE:
                deleted, keys = deleted + self._delete(keys), []
        return {"partition": partition.id, "rows": deleted + self._delete(keys)}

    def _delete(self, keys: list[str]) -> int:
        if keys:
            self._comparison.target.delete(self._generation, keys)
        return len(keys)


class ReloadWork:
    """Load the rows of one partition that the index lacks or holds altered. The receipt is not persisted."""

    def __init__(self, task: LoadTask) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._comparison, self._generation = Comparison(task), task.generation

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Raises GateRefused when the index refuses a row for good."""
        differences = self._comparison.differences(partition.id, Findings(), self.stopping, self.report)
        wrong = {each.number for each in differences if each.kind not in (STRANGE, UNSOUND)}
        if not wrong:
            return {"partition": partition.id, "rows": 0}
        outcome = self._comparison.target.load(
            self._generation, self._rows(self._comparison.entry(partition.id), wrong)
        )
        if outcome.dead:
            first = outcome.dead[0]
            raise GateRefused(f"partition {partition.id[:12]}: the index refuses {len(outcome.dead)} of {len(wrong)} rows for "
                              f"good, the first is {first.id} of document {first.document_id} ({first.cause}: {first.reason}); "
                              "`backhaul drop CONF` and `backhaul load CONF` load the generation anew")  # fmt: skip
        return {"partition": partition.id, "rows": outcome.rows}

    def _rows(self, entry: Entry, wanted: set[int]) -> Iterator[pa.Table]:
        numbers = pa.array(sorted(wanted), pa.int64())
        for part, table in read_rows(self._comparison.store, entry):
            if self.stopping():
                raise Interrupted(f"partition {entry.partition} stopped before part {part.number}")
            some = table.filter(pc.is_in(table["number"], numbers))
            if some.num_rows:
                yield some


def remove_partition(target: IndexTarget, generation: str, partition: str) -> int:
    """Delete every row of a partition that no manifest knows; the empty string: every row that names none."""
    deleted = 0
    for page in target.scan(generation, partition):
        target.delete(generation, page.keys)
        deleted += len(page.keys)
    return deleted
