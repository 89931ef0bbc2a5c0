"""While the index is away every request is answered in time, and soon after it is back it is asked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.opensearch import Node, delete_indices
from tests.service.outage import Outage, dead, hanging, indexed, slow

pytestmark = pytest.mark.opensearch


@pytest.mark.soak
@pytest.mark.parametrize("outage", [slow, hanging, dead])
def test_an_outage(tmp_path: Path, private_opensearch: Node, outage: Callable[..., Outage]) -> None:
    conf = indexed(tmp_path, private_opensearch)
    try:
        found = outage(tmp_path, conf, private_opensearch, deadline_s=2.0, lasts_s=8.0)
    finally:
        delete_indices(private_opensearch.url, "outage-")
    print(found)
    assert not found.misses
