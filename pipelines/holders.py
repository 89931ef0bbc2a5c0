"""Leases as an onlooker sees them: how often partitions were begun and interrupted, and who holds which now.

Takes and releases nothing. One listing, and one small read for each partition whose keys do not tell all.
"""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipelines.errors import NotFound
from pipelines.leases import Epoch, LeaseSettings, parse_epoch
from pipelines.owner import THIS_MACHINE, Machine, this_owner
from pipelines.pages import hex_cuts
from pipelines.store import Store

_MOST_READ = 2000
_READERS = 16


@dataclass(frozen=True, slots=True)
class Holding:
    """``epochs`` counts how often partitions were begun; what ``retry`` cleared counts there, too.

    ``interruptions`` counts holders that died or were interrupted, since the last clearing of each partition. Where
    there are too many leases to read it is an upper bound, and ``exact`` is False.
    """

    epochs: int
    interruptions: int
    exact: bool
    held: dict[str, Epoch]  # by partition id, the longest held first


def who_holds(store: Store, folder: str, done: Set[str], settings: LeaseSettings, *,
              machine: Machine = THIS_MACHINE, most_read: int = _MOST_READ) -> Holding:  # fmt: skip
    """What the leases under ``folder`` say; partitions that are ``done`` are in nobody's hand."""
    newest: dict[str, int] = {}
    epochs = 0
    for found in store.list(f"{folder}/", cuts=hex_cuts(folder)):
        partition_id, number = found.key.split("/")[-2], int(found.key.rpartition("/")[2].removesuffix(".json"))
        newest[partition_id] = max(newest.get(partition_id, 0), number)
        epochs += 1
    # Done at the first attempt: nothing more to know. What is not done comes first, as it may be held now.
    telling = sorted((p for p, number in newest.items() if number > 1 or p not in done), key=lambda p: (p in done, p))
    with ThreadPoolExecutor(_READERS) as pool:
        read = telling[:most_read]
        found_epochs = pool.map(lambda p: _read(store, f"{folder}/{p}/{newest[p]:06d}.json"), read)
        known = {p: epoch for p, epoch in zip(read, found_epochs, strict=True) if epoch is not None}
    held = {p: epoch for p, epoch in known.items() if p not in done and _alive(epoch, settings, machine)}
    lost = sum(epoch.interruptions + (p not in done and p not in held and epoch.ended in (None, "interrupted"))
               for p, epoch in known.items())  # fmt: skip
    lost += sum(newest[p] - 1 for p in telling[most_read:])
    by_age = dict(sorted(held.items(), key=lambda item: (item[1].taken_ms, item[0])))
    return Holding(epochs, lost, len(telling) <= most_read, by_age)


def _read(store: Store, key: str) -> Epoch | None:
    try:
        return parse_epoch(store.get(key))
    except NotFound:
        return None


def _alive(epoch: Epoch, settings: LeaseSettings, machine: Machine) -> bool:
    if epoch.ended is not None or (epoch.owner.host == this_owner("").host and machine.is_dead(epoch.owner)):
        return False
    return machine.clock.time() < epoch.expires_ms / 1000 + settings.max_skew_s
