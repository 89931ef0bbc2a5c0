"""Receipts: what one partition's stage did, committed once. The existence of a receipt is the commit.

Nothing in a receipt differs between attempts; what does goes to ``attempts/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipelines.digest import FORMAT, canonical_json, check_format, parse_json
from pipelines.errors import NotFound, StoreError
from pipelines.pages import hex_cuts
from pipelines.store import Created, Store

_READERS = 16


class Receipts:
    """The receipts of one stage under ``folder`` (relative to the root), one per partition id; ``leases`` is where
    that stage's leases lie, and ``on_demand`` its marks."""

    def __init__(self, store: Store, folder: str, *, run_id: str = "", stage: str = "") -> None:
        self._store = store
        self.folder = folder.rstrip("/")
        self.leases = f"runs/{run_id}/leases/{stage}"
        self.on_demand = f"runs/{run_id}/on-demand/{stage}"

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

    def read(self, partition_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of them that are there, by partition id in the order given; several are read at a time."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(self.find, partition_ids)
            return {one: receipt for one, receipt in zip(partition_ids, found, strict=True) if receipt}

    def committed(self) -> set[str]:
        """Partition ids that have a receipt."""
        return {partition_id for partition_id, _ in self.listed()}

    def listed(self) -> Iterator[tuple[str, int]]:
        """(partition id, when it was committed in ms since 1970) of every receipt, in any order."""
        start, end = len(self.folder) + 1, len(".json")
        for found in self._store.list(f"{self.folder}/", cuts=hex_cuts(self.folder)):
            if found.key.endswith(".json") and "/" not in found.key[start:]:
                yield found.key[start:-end], found.modified_ms

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
    return Receipts(store, f"runs/{run_id}/receipts/embed", run_id=run_id, stage="embed")


def load_receipts(store: Store, run_id: str, generation: str, index_uuid: str) -> Receipts:
    stage = f"loads/{generation}/{index_uuid}"
    return Receipts(store, f"runs/{run_id}/{stage}", run_id=run_id, stage=stage)
