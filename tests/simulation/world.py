"""What one seed's world is like: how big, how its clocks go, how often what fails. Drawn from the seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from pipelines.leases import LeaseSettings
from tests.simulation.scheduler import Host


@dataclass(frozen=True, slots=True)
class Weather:
    """Rates are chances per request, and for what befalls processes per request or part."""

    faults: float = 0.0  # a request or an answer is lost, refused or late
    late: float = 0.0  # of the writes that time out: delivered much later all the same
    kills: float = 0.0
    freezes: float = 0.0
    longest_freeze_s: float = 0.0
    cuts: float = 0.0  # a machine is cut off from the store for a while
    stops: float = 0.0  # SIGTERM to an invocation, per part

    @property
    def is_calm(self) -> bool:
        return self == CALM


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Start:
    """An invocation: ``kind`` is "driver" with its workers, or "child" of an array."""

    at_s: float
    kind: str
    workers: int
    host: int


@dataclass(frozen=True, slots=True)
class World:
    parts: tuple[int, ...]  # of each partition
    in_step: bool  # parts and graces end just as a renewal is due
    part_s: float
    part_spread: float  # by how much of it parts differ
    grace_s: float  # from a stop until the part in hand is abandoned
    slow: float  # share of the requests that take ten times as long
    page: int  # objects in a page of a listing
    lease: LeaseSettings
    clocks: tuple[tuple[float, float], ...]  # offset and drift of each machine
    clocks_hold: bool  # whether they differ by no more than the stated skew
    weather: Weather
    starts: tuple[Start, ...]
    restarts: int
    calm_at_s: float
    poison: tuple[int, int] | None  # a partition and its part that kills whoever touches it
    cleared: bool  # whether somebody clears the poisonous partition's leases once it was given up
    left: str  # what an earlier attempt left: "", "good", "two", "damaged", "others"
    vanishing: bool  # whether a part that no receipt names vanishes once
    makers: tuple[str, ...]  # what the machines' vectors look like: one, or each its own
    orphans: float  # chance that a worker goes on although its driver died

    @property
    def is_fair(self) -> bool:
        """Nothing happens that leases do not save from double work."""
        w = self.weather
        return self.clocks_hold and not (w.kills or w.freezes or w.cuts or w.stops or self.poison or self.vanishing)

    def hosts(self) -> list[Host]:
        return [Host(f"host-{i}", offset, drift) for i, (offset, drift) in enumerate(self.clocks)]


# Short ones cost less to simulate: who waits looks every few seconds.
_STARTED = (("driver",), ("child",), ("driver", "child"))
_KINDS = ("calm", *["store"] * 3, "kills", *["spot"] * 2, *["freezes"] * 3, "naps", "cuts", "stops", "evictions",
          *["storm"] * 2)  # fmt: skip
_LEASES = [LeaseSettings(), LeaseSettings(ttl_s=15.0, max_skew_s=2.0), LeaseSettings(ttl_s=30.0, max_skew_s=12.0)]


def draw_world(random: Random) -> World:
    lease = random.choice(_LEASES)
    hosts = random.choice((1, 2, 2, 3))
    clocks_hold = random.random() < 0.8
    weather = _draw_weather(random, lease)
    deadly = weather.kills > 0.05  # one partition that many children of an array die on, short of giving it up
    lease = _LEASES[1] if deadly else lease
    partitions = 1 if deadly else random.choice((1, 2, 2, 3, 3, 4))
    most = 5 if deadly else random.choice((1, 6 - partitions, 6 - partitions))
    parts = tuple(random.randint(1, most) for _ in range(partitions))
    in_step = random.random() < (0.6 if weather.kills or weather.stops else 0.05)
    poison, left = None, random.choice(("", "", "", "good", "two", "damaged", "others"))
    if random.random() < 0.15 and not deadly:
        partition = random.randrange(len(parts))
        poison = partition, random.randrange(parts[partition])
        left = "" if poison[1] == 0 else left  # nobody could have made it
    step_s = lease.ttl_s / 3 - 0.2
    several = random.random() < (0.8 if weather.freezes else 0.3)
    return World(
        parts=parts,
        in_step=in_step,
        part_s=random.choice((step_s, 2.5 * step_s)) if in_step else random.choice((0.3, 2.0, 7.0, 20.0)),
        part_spread=0.3 / step_s if in_step else 1.0,
        grace_s=step_s if in_step else 5.0,
        slow=0.4 if in_step else 0.1,
        page=random.choice((1, 2, 3, 1000)),
        lease=lease,
        clocks=tuple(_draw_clock(random, lease, clocks_hold) for _ in range(hosts)),
        clocks_hold=clocks_hold,
        weather=weather,
        starts=_draw_starts(random, hosts, ("child",) if deadly else random.choice(_STARTED)),
        restarts=15 if deadly else random.randint(0, 4),
        calm_at_s=100.0 + 400.0 * random.random(),
        poison=poison,
        cleared=random.random() < 0.3,
        left=left,
        vanishing=left == "" and random.random() < 0.15,
        makers=tuple(f"maker-{i if several else 0}" for i in range(hosts)),
        orphans=random.choice((0.0, 0.0, 0.5)),
    )


def _draw_weather(random: Random, lease: LeaseSettings) -> Weather:
    """Often one kind of trouble alone, so that it is seen what follows from it; sometimes all of them."""
    kind = random.choice(_KINDS)
    storm = kind == "storm"
    freezing = storm or kind in ("freezes", "naps")
    return Weather(
        faults=random.choice((0.05, 0.15, 0.3)) if storm or kind == "store" or random.random() < 0.2 else 0.0,
        late=0.4 if storm or (kind == "store" and random.random() < 0.5) else 0.0,
        kills={"kills": 0.02, "spot": 0.06, "storm": 0.01}.get(kind, 0.0),
        freezes=random.choice((0.01, 0.03)) if freezing else 0.0,
        longest_freeze_s=lease.ttl_s * (0.6 if kind == "naps" else 3.0) if freezing else 0.0,
        cuts=0.01 if kind == "cuts" or (storm and random.random() < 0.3) else 0.0,
        stops={"stops": 0.05, "evictions": 0.5, "spot": 0.5, "storm": 0.05}.get(kind, 0.0),
    )


def _draw_clock(random: Random, lease: LeaseSettings, holds: bool) -> tuple[float, float]:
    drift = random.uniform(-5e-5, 5e-5)
    half = lease.max_skew_s / 2 - 0.1  # what drifts in the meantime is within the tenth of a second
    if holds:
        return random.choice((-half, half, random.uniform(-half, half))), drift
    return random.choice((-1, 1)) * random.choice((2 * lease.max_skew_s, lease.ttl_s, 3600.0)), drift


def _draw_starts(random: Random, hosts: int, kinds: tuple[str, ...]) -> tuple[Start, ...]:
    return tuple(
        Start(
            at_s=random.choice((0.0, random.random() * 3, random.random() * 90)),
            kind=random.choice(kinds),
            workers=random.choice((1, 1, 2)),
            host=random.randrange(hosts),
        )
        for _ in range(random.choice((1, 2, 2, 3)))
    )
