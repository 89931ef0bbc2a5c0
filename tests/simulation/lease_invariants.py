"""What leases promise, checked in the moment a lease is written, or somebody begins, waits, gives up or lets go.

Keeps its own account of every partition's holders; uses none of the protocol's code to judge it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.simulation.corpus import RUN
from tests.simulation.scheduler import Host, Process, Scheduler, Violation
from tests.simulation.world import World

TRIED_S = 60.0  # how long a store's client tries
MAX_DEATHS = 3
ON_DEMAND_AFTER = 3
_LOOK_AGAIN_S = 5.0  # a free lease is noticed within this
_ROUNDING_S = 0.5
_NOTICE_S = 2.0  # from a renewal that is due until its answer, where no request fails


@dataclass
class Holder:
    """One epoch of a lease, and who took it."""

    number: int
    process: Process
    token: str
    taken_s: float
    deaths: int  # in a row before it, as its taker saw them
    interruptions: int
    computed: int = 0
    progressed: bool = False  # it heard that its progress is written
    said_progress: bool = False  # it is written, whether it heard so or not
    robbed_s: float = math.inf  # when it read that another has taken over


@dataclass
class _Looks:
    """A process that looks at a lease: the epoch as it read it, and since when it reads these bytes."""

    data: bytes = b""
    since_s: float = 0.0
    told_s: float | None = None  # when it was first told that this is why it must wait


@dataclass
class Case:
    """All that is known of one partition."""

    name: str
    holders: list[Holder] = field(default_factory=list)
    looks: dict[Process, _Looks] = field(default_factory=lambda: defaultdict(_Looks))
    asked_s: dict[tuple[Process, str], float] = field(default_factory=dict)
    muddied: bool = False  # a renewal or an end was delivered late: what is stored is not what was said last
    ever_muddied: bool = False
    computed: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))  # invocations by part
    struck: int = 0  # by poison
    cleared: int = 0


class LeaseInvariants:
    """``objects`` are the store's, to look something up; ``processes`` everybody by process id."""

    def __init__(self, world: World, scheduler: Scheduler, objects: dict[str, bytes]) -> None:
        self.processes: dict[int, Process] = {}
        self.wasted: list[str] = []  # what may make parts be computed again: kills and the like
        self.cases: dict[str, Case] = {}
        self._world = world
        self._scheduler = scheduler
        self._objects = objects

    def case(self, partition_id: str) -> Case:
        return self.cases.setdefault(partition_id, Case(partition_id[:6]))

    # What the store tells of ``number`` of a partition's epochs.

    def asked(self, process: Process, key: str) -> None:
        self.case(key.split("/")[-2]).asked_s.setdefault((process, key), self._scheduler.now)

    def read(self, process: Process, key: str, data: bytes) -> None:
        case = self.case(key.split("/")[-2])
        looks = case.looks[process]
        if looks.data != data:
            looks.data, looks.since_s, looks.told_s = data, self._scheduler.now, None
        for holder in case.holders:
            if holder.process is process and f"/{holder.number + 1:06d}." in key:
                holder.robbed_s = min(holder.robbed_s, self._scheduler.now)

    def written(self, process: Process, key: str, data: bytes, before: bytes | None, late: bool) -> None:
        case, epoch = self.case(key.split("/")[-2]), orjson.loads(data)
        number = int(key.rpartition("/")[2].removesuffix(".json"))
        newest = case.holders[-1].number if case.holders else 0
        if before is not None:
            self._renewed(process, case, number, epoch, orjson.loads(before))
        elif number != newest + 1 or epoch["number"] != number:
            raise self._violation("epochs out of order", f"{process} created {number} of {case.name} after {newest}")
        else:
            self._taken(process, case, key, epoch)
        if number == case.holders[-1].number:
            case.muddied = late and before is not None
            if case.muddied:
                case.ever_muddied = True
                self.wasted.append(f"a write of {process} came late")

    def _taken(self, process: Process, case: Case, key: str, epoch: dict[str, Any]) -> None:
        deaths = interruptions = 0
        if case.holders:
            if not (data := case.looks[process].data):
                raise self._violation("robbed", f"{process} took {key} without a look at the last epoch")
            seen = orjson.loads(data)
            self._must_be_free(process, case, key, seen)
            deaths, interruptions = _counts(case.holders[-1], seen)
        if epoch["ended"] == "cleared":
            deaths = interruptions = 0
            case.cleared += 1
        now = self._scheduler.now
        case.holders.append(Holder(epoch["number"], process, epoch["token"], now, deaths, interruptions))

    def _must_be_free(self, process: Process, case: Case, key: str, seen: dict[str, Any]) -> None:
        """A live holder that renewed within its time is not robbed while clocks are as stated."""
        holder = case.holders[-1].process
        if not self._world.clocks_hold or case.muddied or seen["ended"] or holder.invocation == process.invocation:
            return
        if holder.dead and holder.host is process.host:
            return
        age_s = case.asked_s[process, key] - holder.host.true_time(seen["renewed_ms"] / 1000)
        if age_s < self._world.lease.ttl_s - _ROUNDING_S:
            raise self._violation("robbed", f"{process} took {key} from {holder}, which renewed {age_s:.1f} s before")

    def _renewed(
        self, process: Process, case: Case, number: int, epoch: dict[str, Any], before: dict[str, Any]
    ) -> None:
        holder = next(holder for holder in case.holders if holder.number == number)
        if epoch["token"] != holder.token or holder.process is not process or epoch["owner"] != before["owner"]:
            raise self._violation("another's epoch", f"{process} wrote epoch {number}, which {holder.process} holds")
        if epoch["progressed"] and not holder.computed:
            raise self._violation("progress that was none", f"{process} says so of epoch {number}")
        if epoch["deaths"] != before["deaths"]:
            earlier = next(one for one in reversed(case.holders) if one.number < number)
            if not (epoch["deaths"] <= 1 and earlier.said_progress):
                raise self._violation("deaths forgotten", f"{process} says {epoch['deaths']} in epoch {number}")
            holder.deaths = min(holder.deaths, epoch["deaths"])
        holder.said_progress = holder.said_progress or epoch["progressed"]

    # What processes tell of themselves.

    def begins(self, process: Process, partition_id: str, part: int) -> None:
        """A part is about to be computed."""
        case, mine = self.case(partition_id), self.mine(process, partition_id)
        mine.computed += 1
        self._must_not_be_lost(process, case, mine)
        if process.name.startswith("child") and mine.deaths >= MAX_DEATHS:
            raise self._violation("not given up", f"{process} works on {case.name} after {mine.deaths} deaths in a row")
        if (
            mine.interruptions >= ON_DEMAND_AFTER
            and f"runs/{RUN}/on-demand/embed/{partition_id}.json" not in self._objects
        ):
            raise self._violation("no on-demand mark", f"{case.name} after {mine.interruptions} interruptions")
        others = {one for one in case.computed[part] if one != process.invocation}
        if others and self._world.is_fair and not case.ever_muddied:
            raise self._violation("computed twice", f"part {part} of {case.name} by {process} and {', '.join(others)}")
        case.computed[part].append(process.invocation)

    def _must_not_be_lost(self, process: Process, case: Case, mine: Holder) -> None:
        """Whoever was robbed looks for it with each renewal, and having seen it begins no further part."""
        after = next((holder for holder in case.holders if holder.number == mine.number + 1), None)
        if after is None or after.process.invocation == process.invocation or self._world.weather.cuts:
            return
        period_s, thawed_s = self._world.lease.ttl_s / 3, process.paused_until_s
        looked_s = max(after.taken_s, thawed_s) + period_s
        lost_s = self._scheduler.now - max(min(looked_s, mine.robbed_s), thawed_s)
        if lost_s > _NOTICE_S + (period_s if self._world.weather.faults else 0.0):
            raise self._violation("went on after a loss", f"{process} lost {case.name} {lost_s:.0f} s ago")

    def struck(self, process: Process, partition_id: str) -> None:
        """Poison kills it. Children of an array share the count, and no zombie comes back to it."""
        case, world = self.case(partition_id), self._world
        case.struck += 1
        if world.clocks_hold and not (
            world.vanishing or world.weather.freezes or world.weather.cuts or world.weather.late
        ):
            alone = all(one.name.startswith(("child", "operator")) for one in self.processes.values())
            if alone and case.struck > MAX_DEATHS * (1 + case.cleared):
                raise self._violation("not given up", f"{case.struck} children died of {case.name}")

    def progressed(self, process: Process, partition_id: str) -> None:
        """It was told that its progress is written where that matters: where a holder before it died."""
        case, mine = self.case(partition_id), self.mine(process, partition_id)
        if mine.deaths and mine is case.holders[-1] and not self.was_out(process) and not case.muddied:
            if not self._stored(partition_id, mine)["progressed"]:
                raise self._violation("progress not kept", f"of {process} on {case.name} after {mine.deaths} deaths")
            mine.progressed = True

    def held(self, process: Process, partition_id: str, retry_after_s: float) -> None:
        """It was told that another has the partition."""
        case, now, lease = self.case(partition_id), self._scheduler.now, self._world.lease
        looks = case.looks[process]
        epoch = orjson.loads(looks.data) if looks.data else None
        if epoch and epoch["ended"] == "failed" and retry_after_s == math.inf and process.name.startswith("child"):
            return  # no share of its, and whoever had it failed
        looks.told_s = looks.told_s or now
        if retry_after_s > _LOOK_AGAIN_S or epoch is None:
            raise self._waits(process, case, f"for {retry_after_s:.1f} s at once")
        holder = self.processes[epoch["owner"]["pid"]]
        silent_s = now - holder.host.true_time(epoch["renewed_ms"] / 1000)
        if epoch["ended"]:
            raise self._waits(process, case, "though it was released")
        if holder.invocation == process.invocation:
            raise self._waits(process, case, "though its own invocation has it")
        if holder.died_s is not None and holder.died_s < looks.since_s and holder.host is process.host:
            raise self._waits(process, case, "though its holder died on the same machine")
        if now - looks.told_s > lease.ttl_s + _ROUNDING_S:
            raise self._waits(process, case, f"though it was the same for {now - looks.told_s:.1f} s")
        if self._world.clocks_hold and silent_s > lease.ttl_s + 2 * lease.max_skew_s + _LOOK_AGAIN_S:
            raise self._waits(process, case, f"though its holder was silent for {silent_s:.1f} s")

    def _waits(self, process: Process, case: Case, why: str) -> Violation:
        return self._violation("kept waiting", f"{process} waits for {case.name} {why}")

    def given_up(self, process: Process, partition_id: str) -> None:
        """A write that came late may have hidden some progress, which costs the partition an attempt."""
        mine = self.mine(process, partition_id)
        if mine.deaths < MAX_DEATHS and not self.case(partition_id).ever_muddied:
            raise self._violation("given up too early", f"{process} after {mine.deaths} deaths of {partition_id[:6]}")

    def released(self, process: Process, partition_id: str) -> None:
        """It has nothing to do with the partition any more."""
        case = self.case(partition_id)
        if not case.holders or case.holders[-1].process is not process or self.was_out(process) or case.muddied:
            return
        if not self._stored(partition_id, case.holders[-1])["ended"]:
            raise self._violation("not released", f"{process} left {case.name} as held")

    def cut(self, host: Host) -> None:
        """Nobody there can renew for a while."""
        self.wasted += [f"{process} was cut off" for process in self.processes.values()
                        if process.host is host and not process.dead]  # fmt: skip

    def was_out(self, process: Process) -> bool:
        """Whether it may have tried in vain for as long as a store's client tries."""
        frozen_s = sum(seconds for one, seconds in self._scheduler.freezes if one is process)
        return bool(self._world.weather.cuts) or frozen_s > TRIED_S / 2

    def mine(self, process: Process, partition_id: str) -> Holder:
        for holder in reversed(self.case(partition_id).holders):
            if holder.process is process:
                return holder
        raise self._violation("not in its hands", f"{process} works on {partition_id[:6]} without a lease")

    def _stored(self, partition_id: str, holder: Holder) -> dict[str, Any]:
        key = f"runs/{RUN}/leases/embed/{partition_id}/{holder.number:06d}.json"
        return dict(orjson.loads(self._objects[key]))

    def _violation(self, name: str, seen: str) -> Violation:
        return self._scheduler.broken(Violation(name, seen))


def _counts(holder: Holder, seen: dict[str, Any]) -> tuple[int, int]:
    """Deaths in a row without progress, and interruptions, up to and with ``holder``, as its successor saw it."""
    died, interrupted = seen["ended"] is None, seen["ended"] == "interrupted"
    progressed = seen["progressed"] or holder.progressed
    deaths = 0
    if died or seen["ended"] in ("interrupted", "failed"):
        deaths = (0 if progressed else holder.deaths) + died
    return deaths, holder.interruptions + (died or interrupted)
