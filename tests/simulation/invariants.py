"""What must hold of receipts, manifest and parts whatever happens, checked in the moment something is written.

Knows the contract (keys, the commit rule); uses none of the protocol's code to judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tests.simulation.corpus import (
    RUN,
    expected_manifest,
    expected_receipt,
    expected_reject,
    part_bytes,
    part_key,
    partition_list,
    sha256,
    spell,
)
from tests.simulation.lease_invariants import LeaseInvariants
from tests.simulation.scheduler import Host, Process, Scheduler, Violation
from tests.simulation.world import World

_PREFIX = f"runs/{RUN}/"
_LONG_S = 5.0  # a freeze that may, with others, make a holder late


def receipt_key(partition_id: str) -> str:
    return f"{_PREFIX}receipts/embed/{partition_id}.json"


class Invariants:
    """``objects`` are the store's, to look something up. ``leases`` judges leases."""

    def __init__(self, world: World, scheduler: Scheduler, objects: dict[str, bytes]) -> None:
        self.leases = LeaseInvariants(world, scheduler, objects)
        self._world = world
        self._scheduler = scheduler
        self._objects = objects
        self._partitions = partition_list(len(world.parts))
        self._numbers = {partition.id: partition.number for partition in self._partitions}
        self._left: dict[tuple[int, int], bytes] = {}
        self._writers: dict[str, Callable[[Process, str, bytes, bytes | None, bool], None]] = {
            "receipts": self._receipt, "manifest.json": self._manifest, "parts": self._part,
            "leases": self.leases.written,
        }  # fmt: skip

    # What the store tells, in the moment it happens.

    def asked(self, process: Process, key: str) -> None:
        if "/leases/" in key:
            self.leases.asked(process, key)

    def read(self, process: Process, key: str, data: bytes) -> None:
        if "/leases/" in key:
            self.leases.read(process, key, data)

    def written(self, process: Process, key: str, data: bytes, *, before: bytes | None, late: bool) -> None:
        if not key.startswith(_PREFIX):
            raise self._violation("a key out of place", key)
        if writer := self._writers.get(key.removeprefix(_PREFIX).split("/")[0]):
            writer(process, key, data, before, late)

    def deleted(self, process: Process, key: str) -> None:
        raise self._violation("deleted", f"{process} deleted {key}")

    def cut(self, host: Host) -> None:
        self.leases.cut(host)

    def _receipt(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        if before is not None:
            raise self._violation("written twice", f"{process} wrote {key} again")
        partition = self._partitions[self._numbers[key.rpartition("/")[2].removesuffix(".json")]]
        self._must_be_named_rightly(key, orjson.loads(data))
        if data not in [expected_receipt(partition, chosen) for chosen in self._choices(partition.number)]:
            raise self._violation("not the reference", f"{process} wrote {key}: {data.decode()}")

    def _manifest(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        if before is not None:
            raise self._violation("written twice", f"{process} wrote {key} again")
        receipts = [self._objects.get(receipt_key(partition.id)) for partition in self._partitions]
        found = [receipt for receipt in receipts if receipt is not None]
        if len(found) < len(receipts) or data != expected_manifest(found):
            raise self._violation("not the reference", f"{process} wrote {key}: {data.decode()}")
        for entry in orjson.loads(data)["entries"]:
            self._must_be_named_rightly(key, entry)

    def _part(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        if sha256(data) not in key:
            raise self._violation("a name that lies", f"{process} wrote other bytes to {key}")

    def _must_be_named_rightly(self, key: str, named: dict[str, Any]) -> None:
        """What a receipt or an entry names is there, with exactly the bytes its name says."""
        for part in named["parts"]:
            data = self._objects.get(part_key(named["partition"], part["number"], part["sha256"]))
            if data is None or sha256(data) != part["sha256"]:
                raise self._violation(
                    "named and not there", f"{key} names part {part['number']}, which is not as named"
                )
        if (file := named.get("file")) and self._objects.get(_PREFIX + file) != expected_reject()[1]:
            raise self._violation("named and not there", f"{key} names {file}")

    # What processes tell of themselves.

    def begins(self, process: Process, partition_id: str, part: int) -> None:
        """A part is about to be computed."""
        folder, computed = f"{_PREFIX}attempts/embed/{partition_id}/", self.leases.case(partition_id).computed[part]
        marks = [key for key in self._objects if key.startswith(folder) and key.endswith(f"/{part:06d}")]
        if len(marks) <= len(computed):
            raise self._violation("no mark", f"{process} computes part {part}, marked {len(marks)} times")
        self.leases.begins(process, partition_id, part)

    def answered(self, process: Process, partition_id: str, receipt: dict[str, Any]) -> None:
        if self._objects.get(receipt_key(partition_id)) != spell(receipt):
            raise self._violation("another receipt", f"{process} says that {partition_id[:6]} has {receipt}")

    def failed(self, process: Process, what: str, error: Exception) -> None:
        """A request is answered within the time that a store's client tries, so nothing may fail for that."""
        unreached, vanished = "could not be reached" in str(error), "vanished" in str(error)
        if (unreached and self.leases.was_out(process)) or (vanished and self._world.vanishing):
            self.leases.wasted.append(f"{process} failed")
            return
        raise self._violation("failed for nothing", f"{process}, {what}: {type(error).__name__}: {error}")

    # What a part may be.

    def leave(self, partition: int, number: int, data: bytes) -> None:
        """An earlier attempt left a good part: of several the smallest name is the one."""
        here = self._left.get((partition, number))
        self._left[partition, number] = data if here is None else min(here, data, key=sha256)

    def _choices(self, partition: int) -> list[Sequence[bytes]]:
        """The parts that a receipt may name: one choice, unless machines make different vectors."""
        partition_id = self._partitions[partition].id
        chosen: list[list[bytes]] = [[]]
        for number in range(self._world.parts[partition]):
            if (partition, number) in self._left:
                makers = [self._left[partition, number]]
            else:
                makers = [part_bytes(partition_id, number, maker) for maker in sorted(set(self._world.makers))]
            chosen = [[*before, data] for before in chosen for data in makers]
        return list(chosen)

    # The end.

    def must_be_done(self) -> None:
        """After a last undisturbed driver everything is done but what is poisonous, and was paid for but once."""
        poison = self._world.poison[0] if self._world.poison else None
        for partition in self._partitions:
            data = self._objects.get(receipt_key(partition.id))
            if partition.number == poison:
                if data is not None:
                    raise self._violation("not the reference", "the poisonous partition was committed")
            elif data is None:
                raise self._violation("not finished", f"partition {partition.id[:6]} has no receipt")
            else:
                self._must_be_named_rightly("its receipt", orjson.loads(data))
        if (f"{_PREFIX}manifest.json" in self._objects) != (poison is None):
            raise self._violation("not finished", f"there is {'no' if poison is None else 'a'} manifest")
        self._must_be_paid_once()

    def _must_be_paid_once(self) -> None:
        wasted = list(self.leases.wasted)
        for process, seconds in self._scheduler.freezes:
            if seconds > _LONG_S:  # and may have finished some short parts before it noticed
                wasted += [f"{process} froze"] * 2
        again = sum(len(by) - 1 for case in self.leases.cases.values() for by in case.computed.values() if by)
        if self._world.clocks_hold and again > 2 * len(wasted):
            raise self._violation("computed again", f"{again} parts, after {', '.join(wasted) or 'no interruption'}")

    def _violation(self, name: str, seen: str) -> Violation:
        return self._scheduler.broken(Violation(name, seen))
