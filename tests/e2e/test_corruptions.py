"""A generation that is not what its parts say is refused for its cause and mended; one that is, is never refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.corruption_kinds import KINDS, Kind
from tests.e2e.corruptions import corrupt, corrupt_each, prepared, refused_good_ones
from tests.e2e.indexed import Indexed, load
from tests.fixtures.opensearch import delete_indices

pytestmark = pytest.mark.opensearch


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, opensearch_url: str) -> Iterator[Indexed]:
    made = load(prepared(tmp_path_factory.mktemp("good"), opensearch_url, documents=600), opensearch_url)
    yield made
    delete_indices(opensearch_url, made.name)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_one_of_each_corruption_is_refused_for_its_cause_and_mended(index: Indexed, kind: Kind) -> None:
    result, _ = corrupt(index, index.rows(), 7, kind)
    assert result.wrong == ()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(1, 501, 100))
def test_five_hundred_corruptions(tmp_path: Path, opensearch_url: str, first: int) -> None:
    generation = load(prepared(tmp_path, opensearch_url), opensearch_url)
    results = list(corrupt_each(generation, range(first, first + 100)))
    delete_indices(opensearch_url, generation.name)
    assert not any(result.wrong for result in results), "\n".join(str(result) for result in results if result.wrong)
    assert min(Counter(result.kind for result in results).values()) == 100 // len(KINDS)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_good_generations_are_not_refused(tmp_path: Path, opensearch_url: str) -> None:
    assert refused_good_ones(tmp_path, opensearch_url, 50) == []
