"""Receipts: what one partition's stage did, committed once. The existence of a receipt is the commit.

Nothing in a receipt differs between attempts; what does goes to ``attempts/``.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from typing import Any

from pipelines.digest import FORMAT, canonical_json, check_format, parse_json
from pipelines.errors import NotFound, StoreError
from pipelines.store import Created, Store


class Receipts:
    """The receipts of one stage under ``folder`` (relative to the root), one per partition id."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self.folder = folder.rstrip("/")

    def find(self, partition_id: str) -> dict[str, Any] | None:
        key = self._key(partition_id)
        try:
            data = self._store.get(key)
        except NotFound:
            return None
        receipt: dict[str, Any] = parse_json(
            data, f"{self._store.uri}/{key}", "Delete it; the same command runs that partition again."
        )
        check_format(receipt.get("format"), f"{self._store.uri}/{key}")
        return receipt

    def committed(self) -> set[str]:
        """Partition ids that have a receipt."""
        start, end = len(self.folder) + 1, len(".json")
        return {found.key[start:-end] for found in self._store.list(f"{self.folder}/")
                if found.key.endswith(".json") and "/" not in found.key[start:]}  # fmt: skip

    def commit(self, partition_id: str, receipt: dict[str, Any], *, must_exist: list[str]) -> dict[str, Any]:
        """Create the receipt after seeing that every object it names exists. The winner's receipt is returned:
        ours, or that of another attempt that was first.

        Raises:
            StoreError: an object that the receipt would name is not there; the partition must run again.
        """
        for key in must_exist:
            try:
                self._store.head(key)
            except NotFound as error:
                raise StoreError(
                    f"{self._store.uri}/{key} vanished before its receipt; run the same command again"
                ) from error
        complete = {"format": FORMAT, **receipt}
        if self._store.create(self._key(partition_id), canonical_json(complete)) is Created.WON:
            return complete
        winner = self.find(partition_id)
        if winner is None:
            raise StoreError(
                f"{self._store.uri}/{self._key(partition_id)} was there and is gone; run the same command again"
            )
        return winner

    def _key(self, partition_id: str) -> str:
        return f"{self.folder}/{partition_id}.json"


def embed_receipts(store: Store, run_id: str) -> Receipts:
    return Receipts(store, f"runs/{run_id}/receipts/embed")


def load_receipts(store: Store, run_id: str, generation: str, index_uuid: str) -> Receipts:
    return Receipts(store, f"runs/{run_id}/loads/{generation}/{index_uuid}")


class Attempt:
    """The record of one try at a partition: a mark per part, made before the part is worked on."""

    def __init__(self, store: Store, run_id: str, stage: str, partition_id: str) -> None:
        self._store = store
        self._folder = (
            f"runs/{run_id}/attempts/{stage}/{partition_id}/{int(time.time() * 1000):013d}-{uuid.uuid4().hex[:8]}"
        )

    def begin_part(self, number: int) -> None:
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "at_ms": int(time.time() * 1000)}
        self._store.put(f"{self._folder}/{number:06d}", canonical_json(facts))


def count_attempts(store: Store, run_id: str, stage: str = "embed") -> tuple[int, int]:
    """(parts begun, distinct parts): the difference is what was computed more than once."""
    begun, distinct = 0, set()
    for found in store.list(f"runs/{run_id}/attempts/{stage}/"):
        segments = found.key.split("/")
        begun += 1
        distinct.add((segments[4], segments[6]))
    return begun, len(distinct)
