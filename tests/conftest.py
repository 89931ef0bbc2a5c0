"""Session fixtures live in tests/fixtures, one real part each."""

from __future__ import annotations

import gc
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

pytest.register_assert_rewrite("tests.contracts.engine_contract")
pytest_plugins = ["tests.fixtures.imds", "tests.fixtures.opensearch", "tests.fixtures.ray_cluster", "tests.fixtures.s3"]

# Files of few and long tests: pytest-xdist would hand them out last, and one of two workers would end up waiting.
_LONG = ("tests/e2e/", "tests/engines/", "tests/simulation/", "tests/contracts/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(_LONG))


def pytest_collection_finish() -> None:
    """What is imported by now stays, and every full collection would walk over all of it."""
    gc.collect()
    gc.freeze()
