"""Session fixtures live in tests/fixtures, one real part each."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

pytest.register_assert_rewrite("tests.contracts.engine_contract")
pytest_plugins = ["tests.fixtures.imds", "tests.fixtures.opensearch", "tests.fixtures.ray_cluster", "tests.fixtures.s3"]

# Files of few and long tests: pytest-xdist would hand them out last, and one of two workers would end up waiting.
_LONG = ("tests/e2e/", "tests/engines/", "tests/simulation/", "tests/contracts/")

# Files that share what takes long to start: one process runs them one after the other.
_TOGETHER = {
    "tests/contracts/test_engine_ray.py": "Ray cluster",
    "tests/engines/test_ray.py": "Ray cluster",
    "tests/targets/test_opensearch_node_faults.py": "OpenSearch node that is killed",
    "tests/service/test_outage.py": "OpenSearch node that is killed",
    "tests/e2e/test_bad_places.py": "OpenSearch node that is killed",
}


class _ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile | None:
    """Each file in one process, as `--dist loadfile` asks, and those together that share something."""
    return _ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


def pytest_collection_finish() -> None:
    """What is imported by now stays, and every full collection would walk over all of it."""
    gc.collect()
    gc.freeze()
