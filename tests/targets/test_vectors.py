"""Settings of an index: which go together, which are the user's, and which make another generation."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.digest import digest_of
from pipelines.targets.target import IndexSettings


def settings(**values: Any) -> IndexSettings:
    return IndexSettings.model_validate({"target": "opensearch", "url": "http://127.0.0.1:1", **values})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"vectors": "half"}, "vectors: half needs engine: faiss"),
        ({"vectors": "byte", "engine": "faiss"}, "vectors: byte needs engine: lucene"),
        ({"vectors": "byte", "compression": 4}, "vectors: byte cannot be compressed"),
        ({"vectors": "half", "engine": "faiss", "on_disk": True}, "vectors: half cannot be compressed or kept on disk"),
        ({"compression": 32}, "compression: 32 is not known to engine: lucene; it has 1, 4"),
        ({"compression": 4, "engine": "faiss"}, "compression: 4 is not known to engine: faiss"),
        ({"compression": 1, "on_disk": True}, "on_disk with compression: 1 needs engine: faiss"),
        ({"gpu_build": True}, "gpu_build needs engine: faiss"),
        ({"target": "lancedb", "url": None, "engine": "faiss", "compression": 8},
         "engine, compression: only index.target opensearch knows them"),
        ({"target": "lancedb", "url": None, "analysis": {"analyzer": {}}}, "analysis: only index.target opensearch"),
        ({"analysis": {"analysers": {}}}, "analysis.analysers is not known; write analyzer"),
        ({"analysis": {"analyzer": {"mine": "standard"}}}, "analysis.analyzer must map names to definitions"),
        ({"settings": {"index": {"number_of_replicas": 3}}}, "settings.number_of_replicas is not yours to set: set index.replicas"),
        ({"settings": {"translog.durability": "async"}}, "a load receipt means that the rows are durable"),
        ({"settings": {"knn": False}}, "settings.knn is not yours"),
        ({"settings": {"knn.advanced.approximate_threshold": 0}}, "the load profile sets it"),
        ({"settings": {"final_pipeline": "x"}}, "an ingest pipeline would alter rows"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_or_is_not_the_users_is_refused_with_the_reason(values: Any, said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings(**values)
    assert said in str(raised.value)


def test_settings_of_users_are_taken_in_every_spelling() -> None:
    given = {"codec": "best_compression", "index": {"merge": {"policy": {"max_merged_segment": "10gb"}}},
             "knn.algo_param.ef_search": 200}  # fmt: skip
    assert settings(settings=given).settings == given


@pytest.mark.parametrize(
    ("values", "times"),
    [({}, 1), ({"on_disk": True}, 4), ({"engine": "faiss", "on_disk": True}, 32), ({"engine": "faiss", "vectors": "half"}, 2),
     ({"engine": "faiss", "on_disk": True, "compression": 1}, 1), ({"engine": "faiss", "compression": 8}, 8)],
)  # fmt: skip
def test_the_compression_in_effect_follows_from_all_of_them(values: Any, times: int) -> None:
    assert settings(**values).times_smaller == times


@pytest.mark.parametrize(
    ("values", "exact"),
    [({}, True), ({"compression": 4}, True), ({"vectors": "byte"}, True), ({"engine": "faiss"}, True),
     ({"engine": "faiss", "vectors": "half"}, False), ({"engine": "faiss", "on_disk": True}, False)],
)  # fmt: skip
def test_vectors_are_compared_with_a_tolerance_where_the_index_may_not_keep_every_bit(values: Any, exact: bool) -> None:
    assert settings(**values).returned_exactly is exact


def test_the_names_of_generations_made_before_the_newer_keys_stay() -> None:
    """The digests as they were before; another one would load every corpus anew."""
    assert digest_of(IndexSettings().deciding())[:8] == "7b97c187"
    assert digest_of(settings(shards=2, m=24).deciding())[:8] == "92d28829"
    spelled_out = settings(shards=2, m=24, engine="lucene", vectors="float", on_disk=False, compression=None,
                           derived_source=None, analysis={}, settings={})  # fmt: skip
    assert spelled_out.deciding() == settings(shards=2, m=24).deciding()


@pytest.mark.parametrize("values", [
    {"engine": "faiss"}, {"vectors": "byte"}, {"on_disk": True}, {"compression": 4}, {"engine": "faiss", "gpu_build": True},
    {"derived_source": False}, {"analysis": {"analyzer": {"a": {"type": "standard"}}}}, {"settings": {"codec": "zlib"}}])  # fmt: skip
def test_what_changes_the_index_makes_another_generation(values: Any) -> None:
    assert digest_of(settings(**values).deciding()) != digest_of(settings().deciding())


def test_how_it_is_searched_and_reached_makes_no_other_generation() -> None:
    assert settings(server_hybrid=True, faiss_installed=True, ef_search=500).deciding() == settings().deciding()
