"""The batch_array engine: this process is one child of an array, such as AWS Batch starts, and shares the partitions
with the others. Knows which come first; leases decide who does what, and ``run_here`` does it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from jobs.engines.engine import BatchArraySettings, Beat, EngineSettings, Left, Outcome, WorkSpec
from jobs.engines.local import run_here
from jobs.engines.notice import life_cycle
from pipelines.errors import SettingsError
from pipelines.leased import LeasedTask
from pipelines.partition import Partition
from pipelines.receipts import Receipts
from pipelines.store import open_store

S = TypeVar("S")
_INDEX, _SIZE = "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"
_PIECE = 32  # partitions that a helper takes without looking again what is done; one too many costs it a request


@dataclass(frozen=True, slots=True)
class ArrayChild:
    """Child ``index`` of ``of``, counted from 0."""

    index: int
    of: int

    def owns(self, partition: Partition) -> bool:
        """By its number in the whole plan, so that shares never overlap, whatever is done of them already."""
        return partition.number % self.of == self.index

    def writers(self, most: int | None) -> int | None:
        """How many of the ``most`` writers that a target takes at once are this child's; None: no limit."""
        return None if most is None else most // self.of + (self.index < most % self.of)


class BatchArrayEngine:
    """Its own share of the partitions first, then whatever is pending. What live children hold is left to them after
    ``idle_s`` with nothing else to do."""

    def __init__(self, settings: EngineSettings, environment: Mapping[str, str] = os.environ) -> None:
        """Raises SettingsError when nothing says which child this is."""
        child = find_child(settings.batch_array, environment)
        if child is None:
            raise SettingsError(
                f"engine batch_array must know which child of the array this is. Inside AWS Batch {_INDEX} and {_SIZE} say "
                "so; elsewhere add --index 0 --of 4 to `backhaul embed CONF` or `backhaul load CONF`. "
                "--engine local does it all here"
            )
        self._settings = settings
        self._child = child

    def run(self, spec: WorkSpec[S], partitions: Sequence[Partition], *, workers: int | None = None,
            on_beat: Callable[[Beat], None] = lambda beat: None) -> Generator[Outcome]:  # fmt: skip
        """One outcome per partition; Left for one that another child did, failed at, or holds.

        Raises:
            Interrupted: told to stop; what was yielded before is done.
        """
        board = _Board(spec.settings) if isinstance(spec.settings, LeasedTask) else None
        offers = _Offers(self._child, partitions, board, self._settings.batch_array)
        yield from run_here(spec, partitions, self._settings, workers, on_beat, batches=offers.batches(),
                            leave_after_s=self._settings.batch_array.idle_s)  # fmt: skip
        yield from offers.left()


class _Board:
    """What the store says of a stage's partitions, by their ids."""

    def __init__(self, task: LeasedTask) -> None:
        self._store = open_store(task.root, task.storage)
        self._receipts = Receipts(self._store, task.receipts)
        self._on_demand = task.on_demand

    def done(self) -> set[str]:
        return self._receipts.committed()

    def marked(self) -> set[str]:
        """Those that were interrupted so often that they want on-demand capacity."""
        found = self._store.list(f"{self._on_demand}/")
        return {one.key.rpartition("/")[2].removesuffix(".json") for one in found}


class _Offers:
    """Which partitions this child takes, batch by batch, and which it need not take."""

    def __init__(self, child: ArrayChild, partitions: Sequence[Partition], board: _Board | None,
                 settings: BatchArraySettings) -> None:  # fmt: skip
        self._child = child
        self._partitions = partitions
        self._board = board
        self._settings = settings
        self._places = {one.id: at for at, one in enumerate(partitions)}  # of what is neither taken nor left
        self._foreign = {one.id for one in partitions if not child.owns(one)}
        self._done: list[int] = []

    def batches(self) -> Iterator[list[Partition]]:
        """The own share at once. What is others', piece by piece: they are at it as well, so before each piece it is
        looked up what is still to be done."""
        while self._places:
            ranks = self._ranks()
            first = min(ranks.values())
            batch = [one for one, rank in ranks.items() if rank == first]
            if batch[0] in self._foreign:
                batch = self._piece(batch)
            yield [self._partitions[self._places.pop(one)] for one in batch]
            if self._board and self._places:
                self._done += [self._places.pop(one) for one in self._board.done() if one in self._places]

    def left(self) -> Iterator[Left]:
        """What was never taken."""
        for at in self._done:
            yield Left(self._partitions[at], "another child did it")
        for at in self._places.values():
            yield Left(self._partitions[at], "not begun by this child")

    def _ranks(self) -> dict[str, tuple[bool, bool]]:
        """The smaller, the earlier. Marked ones come last on capacity that may be interrupted again, first elsewhere."""
        marked = self._board.marked() if self._board else set()
        capacity = self._capacity if marked else "unknown"

        def late(one: str) -> bool:
            return capacity != "unknown" and (one in marked) == (capacity == "spot")

        return {one: (late(one), one in self._foreign) for one in self._places}

    def _piece(self, ids: list[str]) -> list[str]:
        """This child's part of what everybody may take, were all of them here; each begins elsewhere."""
        start = len(ids) * self._child.index // self._child.of
        return [*ids[start:], *ids[:start]][: max(_PIECE, math.ceil(len(ids) / self._child.of))]

    @cached_property
    def _capacity(self) -> str:
        """spot, on-demand or unknown."""
        capacity = self._settings.capacity
        return life_cycle() if capacity == "auto" else capacity.replace("_", "-")


def find_child(settings: BatchArraySettings, environment: Mapping[str, str] = os.environ) -> ArrayChild | None:
    """Which child this process is, by the settings or by AWS Batch's environment.

    Raises:
        SettingsError: they contradict each other, or Batch's variables make no sense.
    """
    said = None if settings.index is None or settings.of is None else ArrayChild(settings.index, settings.of)
    found = _batch_child(environment)
    if said and found and said != found:
        raise SettingsError(
            f"AWS Batch says that this is child {found.index} of {found.of}, --index and --of say {said.index} of {said.of}; "
            "leave them out inside Batch"
        )
    return said or found


def _batch_child(environment: Mapping[str, str]) -> ArrayChild | None:
    index, size = environment.get(_INDEX), environment.get(_SIZE)
    if index is None and size is None:
        return None
    if index and size and index.isdecimal() and size.isdecimal() and int(index) < int(size):
        return ArrayChild(int(index), int(size))
    raise SettingsError(f"{_INDEX}={index} and {_SIZE}={size} name no child of an array; unset both outside AWS Batch")
