"""The parts of one partition as an attempt finds, begins, writes and commits them. Knows keys and bytes, no Parquet.

A part is named by its bytes, so writing it twice is harmless; the receipt comes last and names what was seen.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipelines.digest import canonical_json, digest_bytes
from pipelines.errors import NotFound
from pipelines.owner import THIS_MACHINE, Machine
from pipelines.receipts import Receipts
from pipelines.store import Store

T = TypeVar("T")


def part_key(run_id: str, partition_id: str, number: int, sha256: str) -> str:
    return f"runs/{run_id}/parts/{partition_id}/{number:06d}-{sha256}.parquet"


class Checkpoint:
    """One attempt at one partition of one run's embed stage."""

    def __init__(self, store: Store, run_id: str, partition_id: str, receipts: Receipts,
                 machine: Machine = THIS_MACHINE) -> None:  # fmt: skip
        self._store = store
        self._run_id = run_id
        self._partition_id = partition_id
        self._receipts = receipts
        self._found = [o.key for o in store.list(f"runs/{run_id}/parts/{partition_id}/")]
        self._machine = machine
        self._attempt = f"{self._now_ms():013d}-{machine.new_token()[:8]}"

    def find(self, number: int, accept: Callable[[bytes], T | None]) -> T | None:
        """What ``accept`` makes of a part that an earlier attempt left, when its bytes match its name.

        ``accept`` gives None for a part that is not the expected one; of several good ones the smallest name wins.
        """
        prefix = part_key(self._run_id, self._partition_id, number, "").removesuffix(".parquet")
        for key in sorted(key for key in self._found if key.startswith(prefix)):
            try:
                data = self._store.get(key)
            except NotFound:
                continue
            if digest_bytes(data) != key.removeprefix(prefix).removesuffix(".parquet"):
                continue
            if (part := accept(data)) is not None:
                return part
        return None

    def begin(self, number: int) -> None:
        """The mark that a part is being worked on: what is computed twice is counted by it."""
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "at_ms": self._now_ms()}
        folder = f"runs/{self._run_id}/attempts/embed/{self._partition_id}/{self._attempt}"
        self._store.put(f"{folder}/{number:06d}", canonical_json(facts))

    def write(self, number: int, data: bytes) -> str:
        """One PutObject under the digest of its own bytes. Returns the digest."""
        sha256 = digest_bytes(data)
        self._store.put(part_key(self._run_id, self._partition_id, number, sha256), data)
        return sha256

    def commit(self, receipt: dict[str, Any], parts: Sequence[tuple[int, str]], file: str | None) -> dict[str, Any]:
        """Create the receipt after every part (number, digest) and the rejects ``file`` were seen to exist; the
        winner's receipt is returned.

        Raises:
            StoreError: something that the receipt would name is not there; the partition must run again.
        """
        named = [part_key(self._run_id, self._partition_id, number, sha256) for number, sha256 in parts]
        if file:
            named.append(f"runs/{self._run_id}/{file}")
        return self._receipts.commit(self._partition_id, receipt, must_exist=named)

    def _now_ms(self) -> int:
        return int(self._machine.clock.time() * 1000)
