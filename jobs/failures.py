"""Failures as records beside the run: one per partition and stage, written when it is given up and gone when it is
mended. Knows no receipts: what has one is mended, whatever is recorded here."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from jobs.engines.engine import Failed
from pipelines.digest import canonical_json
from pipelines.errors import NotFound
from pipelines.pages import hex_cuts
from pipelines.store import Store

_READERS = 16


class Failures:
    """Those of one run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id

    def folder(self, stage: str) -> str:
        return f"runs/{self._run_id}/failures/{stage}"

    def ids(self, stage: str) -> set[str]:
        """Partitions that failed, by one listing."""
        folder = self.folder(stage)
        return {found.key.rpartition("/")[2].removesuffix(".json")
                for found in self._store.list(f"{folder}/", cuts=hex_cuts(folder))}  # fmt: skip

    def read(self, stage: str, partition_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Their records, without those that were mended meanwhile."""
        with ThreadPoolExecutor(_READERS) as pool:
            read = pool.map(lambda one: self._read(stage, one), sorted(partition_ids))
            return [record for record in read if record is not None]

    def record(self, stage: str, failed: Failed) -> None:
        record = {"stage": stage, "partition": failed.partition.id, "cause": failed.cause, "message": failed.message,
                  "attempts": failed.attempts, "at_ms": int(time.time() * 1000)}  # fmt: skip
        self._store.put(self._key(stage, failed.partition.id), canonical_json(record))

    def clear(self, stage: str, partition_ids: Iterable[str]) -> None:
        self._store.delete([self._key(stage, one) for one in partition_ids])

    def _read(self, stage: str, partition_id: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = orjson.loads(self._store.get(self._key(stage, partition_id)))
            return record
        except NotFound:
            return None

    def _key(self, stage: str, partition_id: str) -> str:
        return f"{self.folder(stage)}/{partition_id}.json"
