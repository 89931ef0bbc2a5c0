"""What must hold whatever happens, checked in the moment something is written, found, begun or refused.

Knows the contract (keys, the commit rule, what a lease promises); uses none of the protocol's code to judge it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from tests.simulation.scheduler import Host, Process, Scheduler, Violation
from tests.simulation.world import World

TRIED_S = 60.0  # how long a store's client tries
LOOK_AGAIN_S = 5.0  # a free lease is noticed within this
MAX_DEATHS = 3
ON_DEMAND_AFTER = 3
_ROUNDING_S = 0.5
_LONG_S = 5.0  # a freeze that may, with others, make a holder late
_NOTICE_S = 30.0  # beside a renewal's period: what a renewal may take where requests fail


@dataclass
class _Holder:
    """One epoch of a lease, and who took it."""

    number: int
    process: Process
    token: str
    taken_s: float
    deaths: int  # in a row before it, as its taker saw them
    interruptions: int
    computed: int = 0
    progressed: bool = False  # it heard that its progress is written


@dataclass
class _Looks:
    """A process that looks at a lease: the epoch as it read it, and since when it reads these bytes."""

    data: bytes = b""
    since_s: float = 0.0


@dataclass
class _Case:
    """All that is known of one partition."""

    holders: list[_Holder] = field(default_factory=list)
    looks: dict[Process, _Looks] = field(default_factory=lambda: defaultdict(_Looks))
    asked_s: dict[tuple[Process, str], float] = field(default_factory=dict)
    written_s: float = 0.0  # when the newest epoch was written last
    muddied: bool = False  # a renewal or an end was delivered late: what is stored is not what was said last
    ever_muddied: bool = False
    computed: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))  # invocations by part


class Invariants:
    """``objects`` are the store's, to look something up; ``processes`` everybody by process id."""

    def __init__(self, world: World, scheduler: Scheduler) -> None:
        self.world = world
        self.objects: dict[str, bytes] = {}
        self.partitions = partition_list(len(world.parts))
        self.wasted: list[str] = []  # what may make parts be computed again: kills and the like
        self.poisoned = 0
        self.processes: dict[int, Process] = {}
        self._scheduler = scheduler
        self._numbers = {partition.id: partition.number for partition in self.partitions}
        self._cases: dict[str, _Case] = defaultdict(_Case)
        self._left: dict[tuple[str, int], bytes] = {}
        self._prefix = f"runs/{RUN}/"
        self._writers: dict[str, Callable[[Process, str, bytes, bytes | None, bool], None]] = {
            "receipts": self._receipt, "manifest.json": self._manifest, "parts": self._part, "leases": self._lease,
        }  # fmt: skip

    # What the store tells, in the moment it happens.

    def asked(self, process: Process, key: str) -> None:
        if "/leases/" in key:
            self._cases[key.split("/")[-2]].asked_s.setdefault((process, key), self._scheduler.now)

    def read(self, process: Process, key: str, data: bytes) -> None:
        if "/leases/" in key:
            looks = self._cases[key.split("/")[-2]].looks[process]
            if looks.data != data:
                looks.data, looks.since_s = data, self._scheduler.now

    def written(self, process: Process, key: str, data: bytes, *, before: bytes | None, late: bool) -> None:
        if not key.startswith(self._prefix):
            raise self._violation("a key out of place", key)
        if writer := self._writers.get(key.removeprefix(self._prefix).split("/")[0]):
            writer(process, key, data, before, late)

    def deleted(self, process: Process, key: str) -> None:
        raise self._violation("deleted", f"{process} deleted {key}")

    def _receipt(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        if before is not None:
            raise self._violation("written twice", f"{process} wrote {key} again")
        partition = self.partitions[self._numbers[key.rpartition("/")[2].removesuffix(".json")]]
        self._must_be_named_rightly(key, orjson.loads(data))
        if data not in [expected_receipt(partition, chosen) for chosen in self.choices(partition.number)]:
            raise self._violation("not the reference", f"{process} wrote {key}: {data.decode()}")

    def _manifest(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        if before is not None:
            raise self._violation("written twice", f"{process} wrote {key} again")
        receipts = [self.objects.get(self.receipt_key(partition.id)) for partition in self.partitions]
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
            data = self.objects.get(part_key(named["partition"], part["number"], part["sha256"]))
            if data is None or sha256(data) != part["sha256"]:
                raise self._violation(
                    "named and not there", f"{key} names part {part['number']}, which is not as its name says"
                )
        if (file := named.get("file")) and self.objects.get(f"runs/{RUN}/{file}") != expected_reject()[1]:
            raise self._violation("named and not there", f"{key} names {file}")

    # Leases.

    def _lease(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        partition_id, _, name = key.removeprefix(f"{self._prefix}leases/embed/").partition("/")
        case, number, epoch = self._cases[partition_id], int(name.removesuffix(".json")), orjson.loads(data)
        newest = case.holders[-1].number if case.holders else 0
        if before is None:
            if number != newest + 1 or epoch["number"] != number:
                raise self._violation(
                    "epochs out of order", f"{process} created epoch {number} of {partition_id[:6]} after {newest}"
                )
            self._taken(process, case, key, epoch)
        else:
            self._renewed(process, case, number, epoch, orjson.loads(before), late)
        if number == case.holders[-1].number:
            case.written_s = self._scheduler.now
            case.muddied = late and before is not None
            case.ever_muddied = case.ever_muddied or case.muddied

    def _taken(self, process: Process, case: _Case, key: str, epoch: dict[str, Any]) -> None:
        deaths = interruptions = 0
        if case.holders:
            seen = orjson.loads(case.looks[process].data)
            self._must_be_free(process, case, key, seen)
            deaths, interruptions = _counts(case.holders[-1], seen)
        if epoch["ended"] == "cleared":
            deaths = interruptions = 0
        case.holders.append(
            _Holder(epoch["number"], process, epoch["token"], self._scheduler.now, deaths, interruptions)
        )

    def _must_be_free(self, process: Process, case: _Case, key: str, seen: dict[str, Any]) -> None:
        """A live holder that renewed within its time is not robbed while clocks are as stated."""
        holder, now = case.holders[-1].process, case.asked_s[process, key]
        if not self.world.clocks_hold or case.muddied or seen["ended"] or holder.invocation == process.invocation:
            return
        if process.name == "operator" or (holder.dead and holder.host is process.host):
            return
        age_s = now - holder.host.true_time(seen["renewed_ms"] / 1000)
        if age_s < self.world.lease.ttl_s - _ROUNDING_S:
            raise self._violation("robbed", f"{process} took {key} from {holder}, which renewed {age_s:.1f} s before")

    def _renewed(self, process: Process, case: _Case, number: int, epoch: dict[str, Any], before: dict[str, Any],
                 late: bool) -> None:  # fmt: skip
        holder = next(holder for holder in case.holders if holder.number == number)
        if epoch["token"] != holder.token or holder.process is not process or epoch["owner"] != before["owner"]:
            raise self._violation("another's epoch", f"{process} wrote epoch {number}, which {holder.process} holds")
        if epoch["progressed"] and not holder.computed:
            raise self._violation("progress that was none", f"{process} says so of epoch {number}")

    # What processes tell of themselves.

    def begins(self, process: Process, partition_id: str, part: int) -> None:
        """A part is about to be computed."""
        case = self._cases[partition_id]
        marks = [key for key in self._under(f"attempts/embed/{partition_id}/") if key.endswith(f"/{part:06d}")]
        if len(marks) <= len(case.computed[part]):
            raise self._violation(
                "no mark", f"{process} computes part {part} of {partition_id[:6]}, marked {len(marks)} times"
            )
        mine = self._mine(process, partition_id)
        mine.computed += 1
        self._must_not_be_lost(process, case, mine, partition_id)
        if process.name.startswith("child") and mine.deaths >= MAX_DEATHS:
            raise self._violation(
                "not given up", f"{process} works on {partition_id[:6]} after {mine.deaths} deaths in a row"
            )
        if mine.interruptions >= ON_DEMAND_AFTER and not self._under(f"on-demand/embed/{partition_id}"):
            raise self._violation("no on-demand mark", f"{partition_id[:6]} after {mine.interruptions} interruptions")
        others = {one for one in case.computed[part] if one != process.invocation}
        if others and self.world.is_fair and not case.ever_muddied:
            raise self._violation(
                "computed twice", f"part {part} of {partition_id[:6]} by {process} and {', '.join(others)}"
            )
        case.computed[part].append(process.invocation)

    def _must_not_be_lost(self, process: Process, case: _Case, mine: _Holder, partition_id: str) -> None:
        """Whoever was robbed notices it with its next renewal, and begins no further part."""
        after = next((holder for holder in case.holders if holder.number == mine.number + 1), None)
        if after is None or after.process.invocation == process.invocation or self.world.weather.cuts:
            return
        awake_s = self._scheduler.now - max(after.taken_s, process.paused_until_s)
        if awake_s > self.world.lease.ttl_s / 3 + _NOTICE_S:
            raise self._violation("went on after a loss", f"{process} lost {partition_id[:6]} {awake_s:.0f} s ago")

    def progressed(self, process: Process, partition_id: str) -> None:
        """It was told that its progress is written where that matters: where a holder before it died."""
        case = self._cases[partition_id]
        mine = self._mine(process, partition_id)
        stored = orjson.loads(self.objects[f"runs/{RUN}/leases/embed/{partition_id}/{mine.number:06d}.json"])
        if mine.deaths and mine is case.holders[-1] and not self._was_out(process) and not case.muddied:
            if not stored["progressed"]:
                raise self._violation(
                    "progress not kept", f"{process} made some on {partition_id[:6]} after {mine.deaths} deaths"
                )
            mine.progressed = True

    def held(self, process: Process, partition_id: str, retry_after_s: float) -> None:
        """It was told that another has the partition."""
        case, now, lease = self._cases[partition_id], self._scheduler.now, self.world.lease
        looks = case.looks[process]
        if retry_after_s > LOOK_AGAIN_S or not looks.data:
            raise self._violation(
                "kept waiting", f"{process} shall ask for {partition_id[:6]} again in {retry_after_s:.1f} s"
            )
        epoch = orjson.loads(looks.data)
        owner = self.processes[epoch["owner"]["pid"]]
        if epoch["ended"]:
            raise self._violation("kept waiting", f"{process} for {partition_id[:6]}, which was released")
        if owner.invocation == process.invocation:
            raise self._violation("kept waiting", f"{process} for {partition_id[:6]}, which is its own invocation's")
        if owner.died_s is not None and owner.died_s < looks.since_s and owner.host is process.host:
            raise self._violation(
                "kept waiting", f"{process} for {partition_id[:6]}, whose holder died on the same machine"
            )
        if now - max(looks.since_s, process.paused_until_s) > lease.ttl_s + LOOK_AGAIN_S:
            raise self._violation(
                "kept waiting", f"{process} for {partition_id[:6]}, unchanged for {now - looks.since_s:.1f} s"
            )
        silent_s = now - owner.host.true_time(epoch["renewed_ms"] / 1000)
        if self.world.clocks_hold and silent_s > lease.ttl_s + 2 * lease.max_skew_s + LOOK_AGAIN_S:
            raise self._violation(
                "kept waiting", f"{process} for {partition_id[:6]}, whose holder was silent for {silent_s:.1f} s"
            )

    def given_up(self, process: Process, partition_id: str) -> None:
        mine = self._mine(process, partition_id)
        if mine.deaths < MAX_DEATHS:
            raise self._violation(
                "given up too early", f"{process} gives up {partition_id[:6]} after {mine.deaths} deaths in a row"
            )

    def released(self, process: Process, partition_id: str) -> None:
        """It has nothing to do with the partition any more."""
        case = self._cases[partition_id]
        if not case.holders or case.holders[-1].process is not process or self._was_out(process) or case.muddied:
            return
        number = case.holders[-1].number
        if not orjson.loads(self.objects[f"runs/{RUN}/leases/embed/{partition_id}/{number:06d}.json"])["ended"]:
            raise self._violation("not released", f"{process} left epoch {number} of {partition_id[:6]} as held")

    def answered(self, process: Process, partition_id: str, receipt: dict[str, Any]) -> None:
        if self.objects.get(self.receipt_key(partition_id)) != spell(receipt):
            raise self._violation("another receipt", f"{process} says that {partition_id[:6]} has {receipt}")

    def failed(self, process: Process, what: str, error: Exception) -> None:
        """A request is answered within the time that a store's client tries, so nothing may fail for that."""
        reached, vanished = "could not be reached" not in str(error), "vanished" in str(error)
        if (self._was_out(process) and not reached) or (self.world.vanishing and vanished):
            self.wasted.append(f"{process} failed")
            return
        raise self._violation("failed for nothing", f"{process}, {what}: {type(error).__name__}: {error}")

    def cut(self, host: Host) -> None:
        """Nobody there can renew for a while."""
        self.wasted += [f"{process} was cut off" for process in self.processes.values()
                        if process.host is host and not process.dead]  # fmt: skip

    def _was_out(self, process: Process) -> bool:
        """Whether it may have tried in vain for as long as a store's client tries."""
        frozen_s = sum(seconds for one, seconds in self._scheduler.freezes if one is process)
        return bool(self.world.weather.cuts) or frozen_s > TRIED_S / 2

    def _mine(self, process: Process, partition_id: str) -> _Holder:
        for holder in reversed(self._cases[partition_id].holders):
            if holder.process is process:
                return holder
        raise self._violation("not in its hands", f"{process} works on {partition_id[:6]} without a lease")

    # What a part may be.

    def leave(self, partition: int, number: int, data: bytes) -> None:
        """An earlier attempt left a good part: of several the smallest name is the one."""
        here = self._left.get((partition, number))
        self._left[partition, number] = data if here is None else min(here, data, key=sha256)

    def choices(self, partition: int) -> list[Sequence[bytes]]:
        """The parts that a receipt may name: one choice, unless machines make different vectors."""
        partition_id = self.partitions[partition].id
        chosen: list[list[bytes]] = [[]]
        for number in range(self.world.parts[partition]):
            if (partition, number) in self._left:
                makers = [self._left[partition, number]]
            else:
                makers = [part_bytes(partition_id, number, maker) for maker in sorted(set(self.world.makers))]
            chosen = [[*before, data] for before in chosen for data in makers]
        return list(chosen)

    @staticmethod
    def receipt_key(partition_id: str) -> str:
        return f"runs/{RUN}/receipts/embed/{partition_id}.json"

    def _violation(self, name: str, seen: str) -> Violation:
        return self._scheduler.broken(Violation(name, seen))

    def _under(self, folder: str) -> list[str]:
        return [key for key in self.objects if key.startswith(f"{self._prefix}{folder}")]

    # The end.

    def must_be_done(self) -> None:
        """After a last undisturbed driver everything is done but what is poisonous, and was paid for but once."""
        poison = self.world.poison[0] if self.world.poison else None
        for partition in self.partitions:
            data = self.objects.get(self.receipt_key(partition.id))
            if partition.number == poison:
                if data is not None:
                    raise self._violation("not the reference", "the poisonous partition was committed")
            elif data is None:
                raise self._violation("not finished", f"partition {partition.id[:6]} has no receipt")
            else:
                self._must_be_named_rightly("its receipt", orjson.loads(data))
        if (f"runs/{RUN}/manifest.json" in self.objects) != (poison is None):
            raise self._violation("not finished", f"there is {'no' if poison is None else 'a'} manifest")
        self._must_be_paid_once()

    def _must_be_paid_once(self) -> None:
        self.wasted += [f"{process} froze" for process, seconds in self._scheduler.freezes if seconds > _LONG_S]
        again = sum(len(by) - 1 for case in self._cases.values() for by in case.computed.values())
        if self.world.clocks_hold and again > 2 * len(self.wasted):
            raise self._violation(
                "computed again", f"{again} parts, after {', '.join(self.wasted) or 'no interruption'}"
            )


def _counts(holder: _Holder, seen: dict[str, Any]) -> tuple[int, int]:
    """Deaths in a row without progress, and interruptions, up to and with ``holder``, as its successor saw it."""
    died, interrupted = seen["ended"] is None, seen["ended"] == "interrupted"
    progressed = seen["progressed"] or holder.progressed
    deaths = 0
    if died or seen["ended"] in ("interrupted", "failed"):
        deaths = (0 if progressed else holder.deaths) + died
    return deaths, holder.interruptions + (died or interrupted)
