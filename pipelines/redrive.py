"""Send the dead letters of one partition again, after their cause was mended. Knows no engine, and finishes no load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipelines.dead_letters import KeptLetter
from pipelines.errors import Interrupted
from pipelines.load import LoadTask, must_read_manifest
from pipelines.manifest import Entry, read_rows
from pipelines.partition import Partition
from pipelines.receipts import load_receipts
from pipelines.store import open_store
from pipelines.targets.backends import open_target


class RedriveTask(BaseModel):
    """``cause``: of the letters to be sent, as ``failures`` groups them; None for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    load: LoadTask
    cause: str | None = None


class RedriveWork:
    def __init__(self, task: RedriveTask) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        load = task.load
        self._task = task
        self._store = open_store(load.root, load.storage)
        self._target = open_target(load.index, load.root, load.storage, load.corpus)
        self._receipts = load_receipts(self._store, load.run_id, load.generation, load.index_uuid)
        self._letters = load.dead_letters(self._store)
        self._entries = {entry.partition: entry for entry in must_read_manifest(self._store, load.run_id).entries}

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Killed after the rows were taken and before that was recorded, it sends them again, which is harmless."""
        entry = self._entries[partition.id]
        kept = self._letters.read(self._letters.now(partition.id, self._receipts.find(partition.id)))
        tried = [each for each in kept if self._task.cause in (None, each.letter.cause)]
        left = [each.letter for each in kept if each not in tried]
        refused = self._target.load(self._task.load.generation, self._rows(entry, tried)).dead if tried else ()
        if tried:
            rejects = self._letters.write(entry, [*left, *refused])
            self._letters.drove_again(partition.id, rejects, tried=len(tried))
        return {"partition": partition.id, "tried": len(tried), "refused": len(refused)}

    def _rows(self, entry: Entry, tried: list[KeptLetter]) -> Iterator[pa.Table]:
        """The letters' rows, from the parts that hold some."""
        parts, numbers = {each.part for each in tried}, pa.array([each.letter.number for each in tried], pa.int64())
        for part, table in read_rows(self._store, entry, parts=parts):
            if self.stopping():
                raise Interrupted(f"partition {entry.partition} stopped before part {part.number}")
            yield table.filter(pc.is_in(table["number"], numbers))
