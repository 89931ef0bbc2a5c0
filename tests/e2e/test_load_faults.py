"""Through a proxy that misbehaves by seed, a load ends exact: no row missing, twice or altered, poison named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.load_faults import load_each, prepared

KINDS = {"items", "lose", "truncate", "garble", "reset", "delay"}

pytestmark = pytest.mark.opensearch


def must_be_exact(folder: Path, node: str, seeds: range, documents: int) -> None:
    conf = prepared(folder, documents=documents)
    met: Counter[str] = Counter()
    for result in load_each(conf, node, seeds):
        assert result.exact, result
        met.update(result.met)
    assert set(met) >= KINDS, met
    assert met["none"] < 0.8 * met.total(), met


def test_ten_seeds(tmp_path: Path, opensearch_url: str) -> None:
    must_be_exact(tmp_path, opensearch_url, range(1, 11), documents=2_000)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(11, 311, 60))
def test_three_hundred_seeds(tmp_path: Path, opensearch_url: str, first: int) -> None:
    must_be_exact(tmp_path, opensearch_url, range(first, first + 60), documents=2_000)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_hundred_thousand_documents(tmp_path: Path, opensearch_url: str) -> None:
    must_be_exact(tmp_path, opensearch_url, range(1, 2), documents=100_000)
