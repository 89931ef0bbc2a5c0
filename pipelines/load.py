"""Load one partition of a manifest into a generation, and commit its receipt. Knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pipelines.dead_letters import DeadLetters
from pipelines.embed.work import PartDone
from pipelines.errors import Interrupted, NotFound, TargetError
from pipelines.manifest import Entry, Manifest, read_manifest, read_rows
from pipelines.partition import Partition
from pipelines.receipts import Receipts, load_receipts
from pipelines.store import StorageSettings, Store, open_store
from pipelines.targets.backends import open_target
from pipelines.targets.target import DeadLetter, IndexSettings


class LoadTask(BaseModel):
    """All that a worker needs to know; frozen and picklable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    storage: StorageSettings
    corpus: str
    index: IndexSettings
    run_id: str
    generation: str
    index_uuid: str

    def dead_letters(self, store: Store) -> DeadLetters:
        return DeadLetters(store, self.run_id, self.generation, self.index_uuid)


class LoadWork:
    def __init__(self, task: LoadTask) -> None:
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._task = task
        self._store = open_store(task.root, task.storage)
        self._target = open_target(task.index, task.root, task.storage, task.corpus)
        self._receipts = load_receipts(self._store, task.run_id, task.generation, task.index_uuid)
        self._letters = task.dead_letters(self._store)
        self._entries = {entry.partition: entry for entry in must_read_manifest(self._store, task.run_id).entries}

    def __call__(self, partition: Partition) -> dict[str, Any]:
        if receipt := self._receipts.find(partition.id):
            return receipt
        found = self._target.find(self._task.generation)
        if found is None or found.uuid != self._task.index_uuid:
            raise TargetError(
                f"index {self._task.generation} was dropped or made anew while it was being loaded; "
                "run `backhaul load CONF` again"
            )
        entry = self._entries[partition.id]
        dead: Sequence[DeadLetter] = ()
        # Counting first: a replay costs the index as much as a first load.
        if self._target.count(self._task.generation, partition.id) != entry.rows:
            dead = self._target.load(self._task.generation, self._batches(entry)).dead
        return self._commit(partition, entry, dead)

    def _batches(self, entry: Entry) -> Iterator[pa.Table]:
        for part, table in read_rows(self._store, entry):
            if self.stopping():
                raise Interrupted(f"partition {entry.partition} stopped before part {part.number}")
            yield table
            self.report(PartDone(table.num_rows, part.tokens))

    def _commit(self, partition: Partition, entry: Entry, dead: Sequence[DeadLetter]) -> dict[str, Any]:
        rejects = self._letters.write(entry, dead)
        receipt = {"stage": "load", "partition": partition.id, "rows": entry.rows - len(dead), "rejects": rejects}
        named = [f"runs/{self._task.run_id}/{rejects['file']}"] if rejects["file"] else []
        return self._receipts.commit(partition.id, receipt, must_exist=named)


def must_read_manifest(store: Store, run_id: str) -> Manifest:
    """Raises NotFound with the command that makes one."""
    manifest = read_manifest(store, run_id)
    if manifest is None:
        raise NotFound(f"run {run_id} has no manifest yet; `backhaul embed CONF` finishes it")
    return manifest


def loads_finished(store: Store, receipts: Receipts) -> int:
    """How often a load of this index was finished: a verification holds for the newest one only."""
    keys = sorted(found.key for found in store.list(f"{receipts.folder}/finished/"))
    return int(keys[-1].rpartition("/")[2].removesuffix(".json")) if keys else 0


def mark_finished(store: Store, receipts: Receipts) -> int:
    number = loads_finished(store, receipts) + 1
    store.create(f"{receipts.folder}/finished/{number:08d}.json", b"{}")
    return number


def outdate_verifications(store: Store, receipts: Receipts) -> None:
    """A finished generation is about to be written to: wherever that ends, what was verified before is of the past."""
    if loads_finished(store, receipts):
        mark_finished(store, receipts)
