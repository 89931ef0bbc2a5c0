"""One indexed corpus of several tenants, and one service over it, for all tests that change neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.served import Served, index, served, tenants_conf


@pytest.fixture(scope="session")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run description of an indexed corpus of five tenants, on LanceDB."""
    conf = tenants_conf(tmp_path_factory.mktemp("tenants"))
    index(conf)
    return conf


@pytest.fixture(scope="session")
def service(tenants: Path) -> Iterator[Served]:
    """Without authentication and tenant: it sees every row."""
    with served(tenants) as found:
        yield found
