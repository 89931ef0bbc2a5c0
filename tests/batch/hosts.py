"""The simulator's instances: how many containers each takes, and when each is taken away.

Knows seconds of this machine's clock; knows no job and no process.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class Host:
    id: str
    places: int
    taken: int = 0
    notice_at: float = math.inf
    dies_at: float = math.inf
    sigterm: bool = False  # whether its containers get a SIGTERM with the notice
    noticed: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)  # what processes on it see besides


@dataclass(frozen=True)
class Storm:
    """Every host lives for a random time of which a minute's share of all hosts does not outlive a minute."""

    share_per_minute: float
    notice_s: float
    sigterm: bool
    minute_s: float

    def __post_init__(self) -> None:
        if not 0 < self.share_per_minute < 1:
            raise ValueError(f"a storm's share per minute lies between 0 and 1, not at {self.share_per_minute}")

    def lifetime_s(self, rng: random.Random) -> float:
        return rng.expovariate(-math.log1p(-self.share_per_minute)) * self.minute_s


class Fleet:
    """Hosts for ``slots`` containers; one that is lost is replaced by a fresh one after ``replacement_s``."""

    def __init__(self, slots: int, slots_per_host: int, seed: int, replacement_s: float) -> None:
        if slots < 1 or slots % slots_per_host:
            raise ValueError(f"{slots} slots cannot be divided into hosts of {slots_per_host}")
        self.lost: list[Host] = []
        self._places = slots_per_host
        self._seed = seed
        self._replacement_s = replacement_s
        self._storm: Storm | None = None
        self._count = 0
        self._due = [-math.inf] * (slots // slots_per_host)  # when hosts that are missing come
        self.hosts: list[Host] = []

    def storm(self, storm: Storm | None, now: float) -> None:
        self._storm = storm
        for host in self.hosts:
            if not host.noticed:
                self._set_fate(host, now)

    def arrive(self, now: float) -> list[Host]:
        """Hosts that come now."""
        count = sum(at <= now for at in self._due)
        self._due = [at for at in self._due if at > now]
        arrived = [self._host(now) for _ in range(count)]
        self.hosts += arrived
        return arrived

    def free(self) -> Host | None:
        """A host with a place; one under notice takes nothing more."""
        return next((host for host in self.hosts if host.taken < host.places and not host.noticed), None)

    def lose(self, host: Host, now: float) -> None:
        self.hosts.remove(host)
        self.lost.append(host)
        self._due.append(now + self._replacement_s)

    def _host(self, now: float) -> Host:
        self._count += 1
        rng = random.Random(f"{self._seed} host {self._count}")
        host = Host(f"i-{rng.getrandbits(68):017x}", self._places)
        self._set_fate(host, now)
        return host

    def _set_fate(self, host: Host, now: float) -> None:
        """From the seed and the host alone, not from how fast things went so far."""
        host.notice_at = host.dies_at = math.inf
        if self._storm is not None:
            host.notice_at = now + self._storm.lifetime_s(random.Random(f"{self._seed} fate {host.id}"))
            host.dies_at = host.notice_at + self._storm.notice_s
            host.sigterm = self._storm.sigterm
