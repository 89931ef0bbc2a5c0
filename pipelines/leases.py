"""Leases: who has a partition in hand, so that two workers do not pay for it twice.

An optimisation alone: correctness rests on receipts. A takeover creates the next epoch; only its owner writes
an epoch again. Knows no stage and no engine.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from pipelines.digest import FORMAT, canonical_json
from pipelines.errors import LeaseHeld, NotFound, StoreError
from pipelines.owner import THIS_MACHINE, Machine, Owner
from pipelines.store import Created, Store

log = logging.getLogger(__name__)
End = Literal["done", "failed", "interrupted", "cleared"]
_LOOK_AGAIN_S = 5.0  # how often somebody who waits for a lease looks: its owner may be done long before it ends
_RACES = 20


class LeaseSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ttl_s: float = Field(60.0, gt=0, description="seconds without a sign after which a worker is taken for dead")
    max_skew_s: float = Field(10.0, ge=0, description="by how much the clocks of two machines may differ")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One holder's time with a partition, as stored. ``ended`` None and not renewed: it died without a word.

    ``deaths`` counts holders before this one that died in a row without finishing anything; ``interruptions`` all
    holders before it that died or were interrupted, since the last clearing.
    """

    number: int
    owner: Owner
    taken_ms: int
    renewed_ms: int
    expires_ms: int
    ended: End | None = None
    progressed: bool = False
    deaths: int = 0
    interruptions: int = 0
    token: str = ""  # two takers never write the same bytes


class Lease:
    """A partition in our hand. ``lost`` once another invocation has taken it over."""

    def __init__(
        self, leases: Leases, partition_id: str, epoch: Epoch, writing: AbstractContextManager[object]
    ) -> None:
        self._leases = leases
        self.partition_id = partition_id
        self.epoch = epoch
        self.lost = False
        self._progressed = False
        self._ran_out = False  # ever, by our own clock: somebody may have been about to take over when we renewed
        # Held while a write is under way: of two threads' writes the one said last must be the one that stays.
        self._writing = writing

    def renew(self) -> None:
        """Say that we live, unless somebody took over. A store that does not answer is no reason to stop."""
        try:
            after = self._leases.read(self.partition_id, self.epoch.number + 1)
            self.lost = self.lost or (after is not None and after.owner.invocation != self.epoch.owner.invocation)
            if not self.lost:
                self._write()
        except StoreError as error:
            log.warning("lease of partition %s was not renewed: %s", self.partition_id[:12], error)

    def taken_over(self) -> bool:
        """Whether to stop before the next part. A lease that had run out is looked at each time, not with the next renewal
        alone: a network that was cut lets go of its holder and of who takes over in the same moment."""
        if not self.lost and (self._ran_out or self._leases.has_run_out(self.epoch)):
            self.renew()
        return self.lost

    def progress(self) -> None:
        """Something was finished. Written at once where a holder before us died, to tell a poisonous partition
        from bad luck; else with the next renewal."""
        if not self._progressed:
            self._progressed = True
            if self.epoch.deaths:
                self.renew()

    def end(self, how: End) -> None:
        try:
            self._write(how)
        except StoreError as error:
            log.warning("lease of partition %s was not released, it ends by itself: %s", self.partition_id[:12], error)

    def _write(self, ended: End | None = None) -> None:
        with self._writing:
            if self.epoch.ended is None:
                self._ran_out = self._ran_out or self._leases.has_run_out(self.epoch)
                self.epoch = self._leases.dated(replace(self.epoch, ended=ended, progressed=self._progressed))
                self._leases.write(self.partition_id, self.epoch)


class Leases:
    """The leases of one stage under ``folder`` (relative to the root)."""

    def __init__(self, store: Store, folder: str, owner: Owner, settings: LeaseSettings,
                 machine: Machine = THIS_MACHINE) -> None:  # fmt: skip
        self._store = store
        self._folder = folder
        self._owner = owner
        self._settings = settings
        self._machine = machine
        self._clock = machine.clock
        self._seen: dict[str, tuple[Epoch, float]] = {}  # what we wait for, and since when it has not changed

    @property
    def renew_every_s(self) -> float:
        return self._settings.ttl_s / 3

    def take(self, partition_id: str, *, spare_failed: bool = False) -> Lease:
        """The partition for us alone, as far as a lease can say so.

        Args:
            spare_failed: leave it alone where the last holder failed at it.

        Raises:
            LeaseHeld: another invocation has it and gave a sign of life; look again after ``retry_after_s``.
        """
        # Who waits looks first; who comes for the first time finds nobody, as a rule, and asks no more than need be.
        before = self.newest(partition_id) if partition_id in self._seen else None
        for _ in range(_RACES):
            if spare_failed and before is not None and before.ended == "failed":
                raise LeaseHeld(
                    f"partition {partition_id[:12]} failed in the hands of {before.owner.name}; "
                    "`backhaul failures CONF` says why",
                    retry_after_s=math.inf,
                )
            if before is not None and (left_s := self._held_for_s(partition_id, before)) > 0:
                raise LeaseHeld(
                    f"partition {partition_id[:12]} is in the hands of {before.owner.name} (process {before.owner.pid})",
                    retry_after_s=min(left_s, _LOOK_AGAIN_S),
                )
            mine = self._next(before)
            if self._create(partition_id, mine):
                self._seen.pop(partition_id, None)
                mine = self._recounted(partition_id, mine, before)
                return Lease(self, partition_id, mine, self._machine.new_lock())
            before = self.newest(partition_id)
        raise LeaseHeld(f"partition {partition_id[:12]} is taken by others again and again", retry_after_s=1.0)

    def clear(self, partition_id: str) -> None:
        """Forget what became of former holders, so that the partition has all its attempts again. Whoever has it in
        hand is trying it already, and is left alone."""
        before = self.newest(partition_id)
        if before is not None and self._held_for_s(partition_id, before) <= 0:
            self._create(partition_id, replace(self._next(before), ended="cleared", deaths=0, interruptions=0))

    def newest(self, partition_id: str) -> Epoch | None:
        numbers = [_number(found.key) for found in self._store.list(f"{self._folder}/{partition_id}/")]
        return self.read(partition_id, max(numbers)) if numbers else None

    def read(self, partition_id: str, number: int) -> Epoch | None:
        try:
            return parse_epoch(self._store.get(self._key(partition_id, number)))
        except NotFound:
            return None

    def write(self, partition_id: str, epoch: Epoch) -> None:
        self._store.put(self._key(partition_id, epoch.number), _spell(epoch))

    def dated(self, epoch: Epoch) -> Epoch:
        now = self._now_ms()
        return replace(epoch, renewed_ms=now, expires_ms=now + round(self._settings.ttl_s * 1000))

    def has_run_out(self, epoch: Epoch) -> bool:
        return self._now_ms() > epoch.expires_ms

    def _create(self, partition_id: str, epoch: Epoch) -> bool:
        return self._store.create(self._key(partition_id, epoch.number), _spell(epoch)) is Created.WON

    def _next(self, before: Epoch | None) -> Epoch:
        now = self._now_ms()
        mine = Epoch(
            1, self._owner, now, now, now + round(self._settings.ttl_s * 1000), token=self._machine.new_token()
        )
        if before is None:
            return mine
        died = before.ended is None
        in_a_row = 0 if before.progressed or before.ended in ("done", "cleared") else before.deaths
        deaths = in_a_row + died
        lost = before.interruptions + (died or before.ended == "interrupted")
        return replace(mine, number=before.number + 1, deaths=deaths, interruptions=lost)

    def _recounted(self, partition_id: str, mine: Epoch, before: Epoch | None) -> Epoch:
        """Its holder may have finished something between our look and our taking it: then those who died before did not
        die in a row."""
        if before is None or not before.deaths or before.progressed:
            return mine
        try:
            now = self.read(partition_id, before.number)
            if now is not None and now.progressed:
                mine = replace(mine, deaths=self._next(now).deaths)
                self.write(partition_id, mine)
        except StoreError as error:
            log.warning("lease of partition %s may count a death too many: %s", partition_id[:12], error)
        return mine

    def _held_for_s(self, partition_id: str, epoch: Epoch) -> float:
        """Seconds until the epoch can be taken over, 0 when it can be now.

        Its own word on when it expires holds within the stated skew. Beside it, an epoch that we saw unchanged for a
        whole ttl of our own clock was not renewed by anybody, whatever its clock says.
        """
        owner, us = epoch.owner, self._owner
        if epoch.ended or owner.invocation == us.invocation:
            return 0.0
        if owner.host == us.host and self._machine.is_dead(owner):
            return 0.0
        seen, since = self._seen.get(partition_id, (None, 0.0))
        if seen != epoch:
            since = self._clock.monotonic()
            self._seen[partition_id] = (epoch, since)
        by_its_word = epoch.expires_ms / 1000 + self._settings.max_skew_s - self._clock.time()
        by_our_watch = since + self._settings.ttl_s - self._clock.monotonic()
        return max(0.0, min(by_its_word, by_our_watch))

    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)

    def _key(self, partition_id: str, number: int) -> str:
        return f"{self._folder}/{partition_id}/{number:06d}.json"


def newest_epochs(store: Store, folder: str) -> Iterable[tuple[str, Epoch]]:
    """(partition id, newest epoch) of every partition that has a lease beneath ``folder``."""
    newest: dict[str, str] = {}
    for found in store.list(f"{folder}/"):
        partition_id = found.key.split("/")[-2]
        newest[partition_id] = max(newest.get(partition_id, ""), found.key)
    for partition_id, key in newest.items():
        yield partition_id, parse_epoch(store.get(key))


def parse_epoch(data: bytes) -> Epoch:
    value: dict[str, Any] = orjson.loads(data)
    value.pop("format")
    return Epoch(**{**value, "owner": Owner(**value["owner"])})


def _number(key: str) -> int:
    return int(key.rpartition("/")[2].removesuffix(".json"))


def _spell(epoch: Epoch) -> bytes:
    return canonical_json({"format": FORMAT, **asdict(epoch)})
