"""The IndexTargets held to the contract, by name: one function each, which opens it over a fresh place.

An entry is called once per test and returns an opener; each call of the opener gives another target object on
the same index and the same release records, as another process would see them. What it starts or leaves behind
it undoes with ``request.addfinalizer``; shared servers come from session fixtures by ``request.getfixturevalue``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.releases import ReleaseLog
from pipelines.store import StorageSettings, Store
from pipelines.targets.target import IndexSettings, IndexTarget

Opener = Callable[[], IndexTarget]
Place = Callable[[pytest.FixtureRequest, str, Store], Opener]


def lancedb(request: pytest.FixtureRequest, corpus: str, store: Store) -> Opener:
    from pipelines.targets.on_lancedb import LanceTarget

    folder: Path = request.getfixturevalue("tmp_path") / "lancedb"
    settings = IndexSettings(target="lancedb")
    return lambda: LanceTarget(settings, folder.as_uri(), StorageSettings(), ReleaseLog(store, corpus))


def opensearch(request: pytest.FixtureRequest, corpus: str, store: Store) -> Opener:
    from pipelines.targets.on_opensearch import OpenSearchTarget
    from tests.fixtures.opensearch import delete_indices

    url: str = request.getfixturevalue("opensearch_url")
    request.addfinalizer(lambda: delete_indices(url, corpus))
    settings = IndexSettings(target="opensearch", url=url, replicas=0)
    return lambda: OpenSearchTarget(settings, ReleaseLog(store, corpus))


TARGETS: dict[str, Place] = {"lancedb": lancedb, "opensearch": opensearch}
