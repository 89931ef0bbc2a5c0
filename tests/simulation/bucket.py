"""A simulated object store with obstore's functions: strongly consistent as S3 is, and as unreliable on the way.

A request may be lost, refused or answered late; a write that timed out may be delivered much later. Knows keys
and bytes; what they mean is the invariants' business.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import log
from random import Random
from typing import Any, Protocol

from obstore.exceptions import AlreadyExistsError, GenericError, NotFoundError

from tests.simulation.scheduler import Host, Killed, Process, Scheduler, Violation
from tests.simulation.world import World

_LATENCY_S = 0.03
_REQUESTS = 20_000  # of a schedule; a thousand are many
_FAULTS_IN_A_ROW = 3  # so that a request that is tried for a minute is answered
_FAULTS = ("unavailable", "lost request", "lost answer", "slow answer", "conflict", "echo")


class Witness(Protocol):
    """Who sees everything that becomes of the objects, in the moment it does."""

    def asked(self, process: Process, key: str) -> None:
        """A conditional write is on its way."""

    def read(self, process: Process, key: str, data: bytes) -> None: ...

    def written(self, process: Process, key: str, data: bytes, *, before: bytes | None, late: bool) -> None: ...

    def deleted(self, process: Process, key: str) -> None: ...

    def cut(self, host: Host) -> None:
        """A machine is cut off from the store."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What obstore.get gives."""

    meta: dict[str, Any]
    data: bytes

    def bytes(self) -> bytes:
        return self.data

    def stream(self, min_chunk_size: int) -> Iterator[bytes]:
        return iter((self.data,) if self.data else ())


class Bucket:
    """``put``, ``get``, ``head``, ``list`` and ``delete`` as obstore has them; the first argument is the process
    that asks, in the place of obstore's store."""

    def __init__(self, scheduler: Scheduler, random: Random, world: World, witness: Witness,
                 objects: dict[str, bytes]) -> None:  # fmt: skip
        self.objects = objects
        self.calm = world.weather.is_calm
        self.counts: Counter[str] = Counter()
        self._weather = world.weather
        self._timeout_s = world.lease.ttl_s / 30
        self._keys: list[str] = []
        self._written_s: dict[str, float] = {}
        self._scheduler = scheduler
        self._random = random
        self._page = world.page
        self._slow = world.slow
        self._witness = witness

    def put(self, process: Process, key: str, data: bytes, *, mode: str = "overwrite",
            use_multipart: bool = False) -> None:  # fmt: skip
        create = mode == "create"
        if create:
            self._witness.asked(process, key)
        fault, dies = self._travel(process)
        if fault in ("conflict", "echo") and not create:
            fault = "unavailable"
        self._say(process, "create" if create else "put", key, fault)
        if fault == "unavailable":
            raise GenericError("the server answered: non-2xx status code: 503")
        if fault == "conflict":
            raise AlreadyExistsError("409 ConditionalRequestConflict")
        if fault == "lost request":
            if self._random.random() < self._weather.late:
                self._deliver_late(process, key, data, create)
            self._time_out(process)
        stands = self._apply(process, key, data, create)
        if dies:
            process.kill()
            raise Killed
        if fault == "lost answer":
            self._time_out(process)
        if fault == "slow answer":
            self._scheduler.sleep(process, self._timeout_s * self._random.random())
        if not stands or fault == "echo":  # the client tried again by itself, and met its own write
            raise AlreadyExistsError("412 PreconditionFailed")

    def get(self, process: Process, key: str, *, options: dict[str, Any] | None = None) -> _Found:
        assert not options, "the protocol reads whole objects"
        self._ask(process, "get", key)
        data = self.objects.get(key)
        if data is None:
            raise NotFoundError(f"{key} not found")
        self._witness.read(process, key, data)
        return _Found(self._meta(key), data)

    def head(self, process: Process, key: str) -> dict[str, Any]:
        self._ask(process, "head", key)
        if key not in self.objects:
            raise NotFoundError(f"{key} not found")
        return self._meta(key)

    def list(self, process: Process, prefix: str | None, *, offset: str | None = None,
             chunk_size: int = 1000) -> Iterator[Sequence[dict[str, Any]]]:  # fmt: skip
        """Pages in key order, each as the store is when it is asked for. S3 may give fewer than it is asked for."""
        folder, size = f"{prefix}/" if prefix else "", min(chunk_size, self._page)
        reached = offset or ""
        while True:
            self._ask(process, "list", folder)
            first = max(bisect_left(self._keys, folder), bisect_right(self._keys, reached))
            page = [key for key in self._keys[first : first + size] if key.startswith(folder)]
            if not page:
                return
            yield [self._meta(key) for key in page]
            if len(page) < size:
                return
            reached = page[-1]

    def delete(self, process: Process, paths: Sequence[str]) -> None:
        for key in [paths] if isinstance(paths, str) else paths:
            self._ask(process, "delete", key)
            if key in self.objects:
                self._remove(key)
                self._witness.deleted(process, key)

    def place(self, key: str, data: bytes) -> None:
        """As if it had always been there."""
        if key not in self.objects:
            insort(self._keys, key)
        self.objects[key] = data
        self._written_s[key] = self._scheduler.now

    def vanish(self, key: str) -> None:
        """Somebody who is no part of the protocol removes it."""
        self.counts["vanished"] += 1
        self._scheduler.say("somebody", f"removes {key}")
        self._remove(key)

    def _ask(self, process: Process, verb: str, key: str) -> None:
        """A request that changes nothing by itself."""
        fault, dies = self._travel(process)
        self._say(process, verb, key, fault)
        if dies:
            process.kill()
            raise Killed
        if fault == "unavailable":
            raise GenericError("the server answered: non-2xx status code: 503")
        if fault in ("lost request", "lost answer"):
            self._time_out(process)
        if fault == "slow answer":
            self._scheduler.sleep(process, self._timeout_s * self._random.random())

    def _travel(self, process: Process) -> tuple[str | None, bool]:
        """The way to the store takes time, in which its process may die, freeze or be cut off. Returns what befalls
        the request, and whether the process dies once the store has done it."""
        if process.died_s is not None:
            raise Killed
        draw, weather = self._random.random, self._weather
        self.counts["requests"] += 1
        if self.counts["requests"] > _REQUESTS:
            raise self._scheduler.broken(Violation("never ends", f"{_REQUESTS} requests"))
        dies = False
        if not self.calm:
            if weather.kills and draw() < weather.kills:
                self.counts["kills"] += 1
                if draw() < 0.5:
                    process.kill()
                    raise Killed
                dies = True
            if weather.freezes and draw() < weather.freezes:
                self.counts["freezes"] += 1
                process.pause(weather.longest_freeze_s * draw())
            if weather.cuts and draw() < weather.cuts:
                self.counts["cuts"] += 1
                process.host.cut_off_until_s = self._scheduler.now + 150.0 * draw()
                self._witness.cut(process.host)
        latency_s = _LATENCY_S * (10.0 if draw() < self._slow else 1.0)
        self._scheduler.sleep(process, -latency_s * log(1.0 - draw()))
        if dies or self.calm:
            return None, dies
        if process.host.cut_off_until_s > self._scheduler.now:
            self._time_out(process)
        if weather.faults and process.faults_in_a_row < _FAULTS_IN_A_ROW and draw() < weather.faults:
            process.faults_in_a_row += 1
            fault = _FAULTS[int(draw() * len(_FAULTS))]
            self.counts[fault] += 1
            return fault, False
        process.faults_in_a_row = 0
        return None, False

    def _time_out(self, process: Process) -> None:
        self._scheduler.sleep(process, self._timeout_s * (0.2 + self._random.random()))
        raise GenericError("error sending request: operation timed out")

    def _apply(self, process: Process, key: str, data: bytes, create: bool, late: bool = False) -> bool:
        """Whether the bytes stand now."""
        before = self.objects.get(key)
        if create and before is not None:
            return False
        self.place(key, data)
        self._witness.written(process, key, data, before=before, late=late)
        return True

    def _deliver_late(self, process: Process, key: str, data: bytes, create: bool) -> None:
        def deliver() -> None:
            self.counts["late writes"] += 1
            stands = self._apply(process, key, data, create, late=True)
            self._scheduler.say(process, f"its lost {'create' if create else 'put'} of {key} arrives: {stands}")

        delay_s = self._random.choice((1.0, 20.0, 120.0, 2000.0)) * self._random.random()
        self._scheduler.after(delay_s, deliver)

    def _meta(self, key: str) -> dict[str, Any]:
        modified = datetime.fromtimestamp(self._written_s[key], UTC)
        return {"path": key, "size": len(self.objects[key]), "e_tag": None, "last_modified": modified, "version": None}

    def _remove(self, key: str) -> None:
        del self.objects[key]
        self._keys.remove(key)

    def _say(self, process: Process, verb: str, key: str, fault: str | None) -> None:
        self._scheduler.say(process, f"{verb} {key}{f' ({fault})' if fault else ''}")
