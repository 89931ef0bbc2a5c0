"""The numbered release records of a corpus on one target, in the object store.

On LanceDB the newest record *is* the alias; on OpenSearch the alias is the truth and records follow it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import orjson

from pipelines.digest import canonical_json
from pipelines.store import Created, Store

_READERS = 16


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    number: int
    generation: str
    previous: str | None
    at_ms: int


class ReleaseLog:
    def __init__(self, store: Store, corpus: str) -> None:
        self._store = store
        self.corpus = corpus

    def newest(self, target_id: str) -> ReleaseRecord | None:
        """The record with the highest number."""
        keys = sorted(found.key for found in self._store.list(self._folder(target_id)))
        return ReleaseRecord(**orjson.loads(self._store.get(keys[-1]))) if keys else None

    def all(self, target_id: str) -> list[ReleaseRecord]:
        """Oldest first."""
        keys = sorted(found.key for found in self._store.list(self._folder(target_id)))
        with ThreadPoolExecutor(_READERS) as pool:  # one after the other, a long history would keep a rollback waiting
            return [ReleaseRecord(**orjson.loads(data)) for data in pool.map(self._store.get, keys)]

    def before(self, target_id: str, generation: str) -> str | None:
        """What was live before ``generation`` first was; None for the first release."""
        path = self.path(target_id)
        place = path.index(generation) if generation in path else 0
        return path[place - 1] if place else None

    def path(self, target_id: str) -> list[str]:
        """The generations that going back leads through, oldest first.

        A generation that was gone back to stands where it stood, and what was live after it is forgotten: going
        back from there leads further back.
        """
        path: list[str] = []
        for record in self.all(target_id):
            if record.generation in path:
                del path[path.index(record.generation) :]
            path.append(record.generation)
        return path

    def targets(self) -> list[str]:
        """Ids of every target that the corpus was ever released on."""
        start = len(self._folder("")) - 1
        return sorted({found.key[start:].rpartition("/")[0] for found in self._store.list(self._folder("")[:-1])})

    def append(self, target_id: str, generation: str, *, after: ReleaseRecord | None) -> ReleaseRecord | None:
        """Create the record that follows ``after`` (None: the first). None when another release took the number."""
        number = after.number + 1 if after else 1
        record = ReleaseRecord(number, generation, after.generation if after else None, int(time.time() * 1000))
        created = self._store.create(f"{self._folder(target_id)}{number:08d}.json", canonical_json(asdict(record)))
        return record if created is Created.WON else None

    def _folder(self, target_id: str) -> str:
        return f"corpora/{self.corpus}/releases/{target_id}/"
