"""What an attempt at one partition spent its time on, kept beside the run as a small record that nothing relies on.

Timings differ between attempts, so that no receipt holds or names them. Knows no engine and no price.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TypeVar

import orjson

from pipelines.digest import canonical_json
from pipelines.errors import BackhaulError
from pipelines.pages import hex_cuts
from pipelines.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)
_READERS = 16


@dataclass(frozen=True, slots=True)
class Timing:
    """One attempt that ended with a receipt. ``tokens`` and ``rows`` are those embedded in it, not those found of earlier
    attempts. ``load_s`` is what its worker took to be ready: model, tokenizer and store, once for all its partitions.
    ``waited_s`` is time without a row to embed, ``computing_s`` that of the embedder; what is left of ``elapsed_s`` went
    into parts (encoding, uploading). Times of day are in ms since 1970 by the worker's clock."""

    partition: str
    worker: str
    host: str
    hardware: str
    load_s: float
    began_ms: int
    elapsed_s: float
    waited_s: float
    computing_s: float
    tokens: int
    rows: int
    parts: int


class Stopwatch:
    """One attempt, from its making on. The share of ``waiting`` is the embedder's, as rows are taken by the thread that
    embeds them."""

    def __init__(self) -> None:
        self.began_ms = int(time.time() * 1000)
        self.waited_s = self.computing_s = 0.0
        self.tokens = self.rows = self.parts = 0
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """The items; the time until each is there counts as waited."""
        found = iter(items)
        while True:
            began = time.monotonic()
            try:
                item = next(found)
            except StopIteration:
                return
            finally:
                self.waited_s += time.monotonic() - began
            yield item

    @contextmanager
    def computing(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.computing_s += time.monotonic() - began

    def part(self, *, tokens: int, rows: int) -> None:
        """One was embedded."""
        self.tokens += tokens
        self.rows += rows
        self.parts += 1


class Timings:
    """The records of one run's embedding. A worker makes it when it is ready, ``load_s`` after it began to be."""

    def __init__(self, store: Store, run_id: str, *, hardware: str = "", load_s: float = 0.0) -> None:
        self._store = store
        self._folder = f"runs/{run_id}/attempts/timings"
        self._hardware = hardware
        self._load_s = load_s
        self._host = socket.gethostname()
        self._worker = f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def keep(self, partition_id: str, watch: Stopwatch) -> None:
        """Once the partition is committed. A store that does not take it costs the record and nothing else."""
        timing = Timing(partition_id, self._worker, self._host, self._hardware, round(self._load_s, 3), watch.began_ms,
                        round(watch.elapsed_s, 4), round(watch.waited_s, 4), round(watch.computing_s, 4),
                        watch.tokens, watch.rows, watch.parts)  # fmt: skip
        key = f"{self._folder}/{partition_id}/{watch.began_ms:013d}-{self._worker[-8:]}.json"
        try:
            self._store.put(key, canonical_json(asdict(timing)))
        except BackhaulError as error:
            log.warning("the timings of partition %s were not kept: %s", partition_id, error)

    def of(self, partition_ids: Iterable[str]) -> list[Timing]:
        """Those of some partitions, oldest first."""
        with ThreadPoolExecutor(_READERS) as pool:
            listed = pool.map(lambda one: [o.key for o in self._store.list(f"{self._folder}/{one}/")], partition_ids)
            return self._read([key for keys in listed for key in keys])

    def sample(self, most: int) -> tuple[list[Timing], int]:
        """At most so many, spread evenly over the run (ids are digests, so that their order is none), and how many there
        are in all."""
        keys = [found.key for found in self._store.list(f"{self._folder}/", cuts=hex_cuts(self._folder))]
        step = max(1, -(-len(keys) // most))
        return self._read(keys[::step]), len(keys)

    def _read(self, keys: Sequence[str]) -> list[Timing]:
        with ThreadPoolExecutor(_READERS) as pool:
            found = [timing for timing in pool.map(self._one, keys) if timing]
        return sorted(found, key=lambda timing: (timing.began_ms, timing.partition))

    def _one(self, key: str) -> Timing | None:
        """None for a record that is gone, damaged, or not of this version: figures must not stop what shows them."""
        try:
            value = orjson.loads(self._store.get(key))
            return Timing(**{each.name: value[each.name] for each in fields(Timing)})
        except (BackhaulError, ValueError, KeyError, TypeError):
            return None
