"""EmbedWork whose embedder's bill is kept beside the run, where what differs between attempts belongs.

Each worker process writes what it spent so far over its own object after every part, and each job has one, so that a
job that is read twice counts once. Knows no prices.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import orjson

from pipelines.digest import canonical_json, digest_of
from pipelines.embed.embedder import Embedder, Role, TokenIds, Vectors
from pipelines.embed.remote_embedder import RemoteEmbedder
from pipelines.embed.spent import Spent, total
from pipelines.embed.work import EmbedTask, EmbedWork
from pipelines.store import Store

_READERS = 16


class BilledEmbedWork(EmbedWork):
    """For remote backends. A worker that is killed loses the bill of the part in hand, and no more."""

    def __init__(self, task: EmbedTask) -> None:
        super().__init__(task)
        self._embedder: Embedder = Billed(self._embedder, self._store, task.run_id)


class Billed:
    """An embedder that writes down what it spent whenever it was asked, also in vain."""

    def __init__(self, embedder: Embedder, store: Store, run_id: str) -> None:
        assert isinstance(embedder, RemoteEmbedder)
        self.space, self.maker = embedder.space, embedder.maker
        self._embedder = embedder
        self._store = store
        self._folder = _folder(run_id)
        self._name = uuid.uuid4().hex
        self._kept: dict[str, Spent] = {}
        self._keep()  # the probe

    def embed(self, texts: Sequence[str], role: Role, ids: Sequence[TokenIds] | None = None) -> Vectors:
        try:
            return self._embedder.embed(texts, role)
        finally:
            self._keep()

    def _keep(self) -> None:
        account = self._embedder.account
        jobs = {f"job-{digest_of(name)[:32]}": spent for name, spent in account.jobs.items()}
        for name, spent in {self._name: account.by_requests, **jobs}.items():
            if self._kept.get(name) != spent:
                self._store.put(f"{self._folder}/{name}.json", canonical_json(spent.to_json()))
                self._kept[name] = spent


def read_spent(store: Store, run_id: str) -> Spent:
    """What all workers of all invocations spent on a run."""
    keys = [found.key for found in store.list(f"{_folder(run_id)}/")]
    with ThreadPoolExecutor(_READERS) as pool:
        return total(Spent(**orjson.loads(data)) for data in pool.map(store.get, keys))


def _folder(run_id: str) -> str:
    return f"runs/{run_id}/attempts/spent"
