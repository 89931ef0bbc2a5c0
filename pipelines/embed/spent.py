"""What an embedding service was asked for and what it billed. Counts; knows no prices and no stores."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Spent:
    """``requests`` that were sent, ``refused`` ones of them, and ``lost`` ones whose answer never came, which may have
    been billed. ``tokens`` as the answers billed them; ``untold`` answers named no tokens. ``texts`` got vectors."""

    requests: int = 0
    refused: int = 0
    lost: int = 0
    texts: int = 0
    tokens: int = 0
    untold: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Spent)))

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def total(spent: Iterable[Spent]) -> Spent:
    return sum(spent, Spent())


class Account:
    """Everything that one embedder spent, counted by its threads. What a job spent stands under the job's name, so
    that it counts once, however often its result is read."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._by_requests = Spent()
        self._jobs: dict[str, Spent] = {}

    def add(self, spent: Spent) -> None:
        with self._turn:
            self._by_requests += spent

    def add_job(self, name: str, spent: Spent) -> None:
        with self._turn:
            self._jobs[name] = spent

    @property
    def by_requests(self) -> Spent:
        with self._turn:
            return self._by_requests

    @property
    def jobs(self) -> dict[str, Spent]:
        with self._turn:
            return dict(self._jobs)

    @property
    def total(self) -> Spent:
        return total([self.by_requests, *self.jobs.values()])
