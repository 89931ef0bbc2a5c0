"""One schedule: a world, what is started in it, what befalls it, and a last undisturbed invocation."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from pipelines.errors import BackhaulError
from pipelines.owner import Owner
from pipelines.partition import Partition
from pipelines.store import ObjectStore
from tests.simulation.bucket import Bucket
from tests.simulation.corpus import part_bytes, part_key, partition_list, sha256, spell
from tests.simulation.invariants import Invariants, receipt_key
from tests.simulation.invocations import Child, Driver, Invocation
from tests.simulation.lease_invariants import TRIED_S
from tests.simulation.scheduler import Host, Killed, Process, Scheduler, Violation
from tests.simulation.work import Place
from tests.simulation.world import World, draw_world


@dataclass
class Outcome:
    """``violation`` None: every invariant held."""

    seed: int
    violation: Violation | None = None
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # simulated


def run_schedule(seed: int, say: Callable[[str], None] | None = None) -> Outcome:
    """One schedule, the same for the same seed. Errors that are no violation are raised."""
    outcome, state, disabled = Outcome(seed), random.getstate(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    random.seed(seed)  # the waits between tries are drawn from it
    simulation = Simulation(random.Random(seed), say)
    try:
        simulation.run()
    except Violation as violation:
        outcome.violation = violation
    finally:
        simulation.scheduler.end()
        outcome.counts, outcome.seconds = simulation.bucket.counts, simulation.scheduler.now
        random.setstate(state)
        logging.disable(disabled)
    return outcome


class Simulation:
    def __init__(self, draw: random.Random, say: Callable[[str], None] | None = None) -> None:
        self.random = draw
        self.world: World = draw_world(draw)
        self.hosts: list[Host] = self.world.hosts()
        self.partitions: tuple[Partition, ...] = partition_list(len(self.world.parts))
        self.scheduler = Scheduler(say)
        objects: dict[str, bytes] = {}
        self.invariants = Invariants(self.world, self.scheduler, objects)
        self.leases = self.invariants.leases
        self.bucket = Bucket(self.scheduler, draw, self.world, self.invariants, objects)
        self._invocations: list[Invocation] = []
        self._restarts = self.world.restarts
        self._tokens = count()
        self._vanished = not self.world.vanishing
        if say:
            say(f"{self.world}")

    def run(self) -> None:
        self._leave_parts()
        children = sum(start.kind == "child" for start in self.world.starts)
        for number, start in enumerate(sorted(self.world.starts, key=lambda start: start.kind)):
            share = number % max(children, 1), children  # children come first
            self.scheduler.after(
                start.at_s, partial(self._start, start.kind, self.hosts[start.host], start.workers, share)
            )
        self.scheduler.run(self.world.calm_at_s)
        self._calm_down()
        self._finish()
        self.scheduler.run(self.scheduler.now + 3000.0)  # zombies wake, late writes arrive
        self.invariants.must_be_done()

    # What processes have from their simulation.

    def process(self, name: str, host: Host, invocation: str) -> Process:
        process = Process(self.scheduler, host, name, invocation)
        self.leases.processes[process.pid] = process
        return process

    def store(self, process: Process) -> ObjectStore:
        return ObjectStore(process, "sim://bucket", deadline_s=TRIED_S, api=self.bucket, clock=process)  # type: ignore[arg-type]

    def of_invocation(self, name: str) -> Iterator[Process]:
        return (process for process in self.leases.processes.values() if process.invocation == name)

    def is_dead(self, host: Host, owner: Owner) -> bool:
        """What ``host`` can tell: of its own processes alone."""
        process = self.leases.processes[owner.pid]
        return process.host is not host or process.dead

    def new_token(self) -> str:
        return f"{next(self._tokens):08x}"

    def maker(self, process: Process) -> str:
        return self.world.makers[self.hosts.index(process.host)]

    def compute(self, process: Process, partition: Partition, part: int) -> None:
        """The work on a part: takes its time, in which the process may die, freeze or be told to stop."""
        self.invariants.begins(process, partition.id, part)
        self.scheduler.say(process, f"computes part {part} of {partition.id[:6]}")
        self.bucket.counts["parts"] += 1
        if self.world.poison == (partition.number, part):
            self._poisoned(process, partition)
        draw, weather = self.random.random, self.world.weather
        seconds = self.world.part_s * (1.0 + self.world.part_spread * (draw() - 0.5))
        if not self.bucket.calm:
            if weather.stops and draw() < weather.stops:
                self.bucket.counts["stops"] += 1
                invocation = next(i for i in self._invocations if i.name == process.invocation)
                self.scheduler.after(0.1 if self.world.in_step else seconds * draw(), invocation.stop)
            if weather.kills and draw() < 5 * weather.kills:
                self.bucket.counts["kills"] += 1
                self.scheduler.after(seconds * draw(), process.kill)
            if weather.freezes and draw() < 10 * weather.freezes:
                self.bucket.counts["freezes"] += 1
                process.pause(weather.longest_freeze_s * draw())
        self.scheduler.sleep(process, seconds)
        self._vanish(process, partition, part)

    def given_up(self, partition: Partition) -> None:
        """Somebody reads of it, and may clear the partition's leases."""
        self.bucket.counts["given up"] += 1
        if self.world.cleared and not self.bucket.calm:
            self._clear(partition)

    # What befalls them.

    def _start(self, kind: str, host: Host, workers: int = 1, share: tuple[int, int] = (0, 1)) -> Invocation:
        name = f"{kind}-{len(self._invocations)}"
        made = Driver(self, name, host, workers) if kind == "driver" else Child(self, name, host, *share)
        self._invocations.append(made)
        made.start()
        return made

    def ended(self, ended: Invocation) -> None:
        """Whoever started it starts it again, unless it is done."""
        if ended.outcome != "done" and self._restarts and not self.bucket.calm:
            self._restarts -= 1
            self.bucket.counts["restarts"] += 1
            delay_s = self.random.choice((1.0, 30.0)) * self.random.random()
            self.scheduler.after(delay_s, lambda: self._start_again(ended))

    def _start_again(self, ended: Invocation) -> None:
        if not self.bucket.calm:
            host = self.random.choice(self.hosts)
            if isinstance(ended, Child):
                self._start("child", host, share=ended.share)
            else:
                self._start("driver", host)

    def _poisoned(self, process: Process, partition: Partition) -> None:
        self.leases.struck(process, partition.id)
        self.bucket.counts["poisoned"] += 1
        process.kill()
        raise Killed

    def _clear(self, partition: Partition) -> None:
        operator = self.process("operator", self.hosts[0], "operator")
        place = Place(self, operator)
        self.bucket.counts["cleared"] += 1

        def clear() -> None:
            try:
                place.leases(place.store).clear(partition.id)
            except BackhaulError as error:
                self.invariants.failed(operator, "clear", error)

        self.scheduler.start(operator, clear, after_s=1.0)

    def _vanish(self, process: Process, partition: Partition, part: int) -> None:
        """A part that no receipt names is removed, while nobody else is at its partition."""
        if self._vanished or part == 0 or self.bucket.calm:
            return
        here = [p for i in self._invocations for p in i.at(partition)]
        keys = [part_key(partition.id, part - 1, sha256(part_bytes(partition.id, part - 1, maker)))
                for maker in self.world.makers]  # fmt: skip
        keys = [key for key in keys if key in self.bucket.objects]
        committed = receipt_key(partition.id) in self.bucket.objects
        if here == [process] and keys and not committed:
            self._vanished = True
            self.leases.wasted.append("a part vanished")
            self.bucket.vanish(keys[0])

    def _leave_parts(self) -> None:
        """What an earlier attempt left of the first part of each partition."""
        for partition in self.partitions:
            good = [part_bytes(partition.id, 0, maker) for maker in ("earlier-1", "earlier-2")]
            place = self.bucket.place
            if self.world.left in ("good", "two"):
                for data in good[: 1 if self.world.left == "good" else 2]:
                    place(part_key(partition.id, 0, sha256(data)), data)
                    self.invariants.leave(partition.number, 0, data)
            elif self.world.left == "damaged":
                mine = part_bytes(partition.id, 0, self.world.makers[0])
                place(part_key(partition.id, 0, sha256(mine)), mine.replace(b"maker", b"mAker"))
            elif self.world.left == "others":
                other = spell({"rows": ["of another plan", 0], "vectors": "earlier"})
                place(part_key(partition.id, 0, sha256(other)), other)

    # The end.

    def _calm_down(self) -> None:
        self.bucket.calm = True
        self.scheduler.say("the world", "calms down")

    def _finish(self) -> None:
        """A driver, or an array of two children, again as long as they die or leave something: once, unless poison
        kills them or the partitions had bad luck before."""
        world, lease = self.world, self.world.lease
        wait_s = lease.ttl_s + 2 * lease.max_skew_s + 10.0
        work_s = 2.0 * world.part_s * sum(world.parts) + 60.0
        deadline_s = self.scheduler.now + (8.0 if world.poison else 3.0) * (wait_s + work_s)
        driver = self.random.random() < 0.6
        while True:
            host = self.random.choice(self.hosts)
            if driver:
                last = [self._start("driver", host, self.random.choice((1, 2)))]
            else:
                last = [self._start("child", host, share=(index, 2)) for index in range(2)]
            self.scheduler.run(deadline_s, lambda last=last: all(one.outcome for one in last))  # type: ignore[misc]
            if not all(one.outcome for one in last):
                raise Violation("never ends", f"{last} are at it for {self.scheduler.now:.0f} s")
            unlucky = {one for invocation in last for one in invocation.given_up if not self._is_poisonous(one)}
            outcomes = {one.outcome for one in last}
            if "done" in outcomes or (world.poison and not unlucky and outcomes <= {"failed", "left"}):
                return
            if "failed" in outcomes and not unlucky and not world.poison:
                raise Violation("not finished", f"{last} ended: {outcomes}")
            for partition in unlucky:  # before the world calmed down: somebody clears their leases
                self._clear(partition)

    def _is_poisonous(self, partition: Partition) -> bool:
        return self.world.poison is not None and partition.number == self.world.poison[0]
