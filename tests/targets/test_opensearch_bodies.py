"""The exact bodies that settings make, held as golden files; the real node reads each, also those that it cannot run.

Rewritten by ``make golden`` (``GOLDEN=1 pytest tests/targets -k golden``). They follow the OpenSearch documentation:
"Memory-optimized vectors", "Methods and engines", "Building vector indexes remotely using GPUs", "Score ranker processor".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import TargetError
from pipelines.targets.filters import equals
from pipelines.targets.opensearch_mapping import index_body, load_profile, search_profile
from pipelines.targets.opensearch_search import search_body
from pipelines.targets.target import IndexSettings, Meta, Query
from tests.fixtures.faulty_opensearch import Request, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import DIMENSIONS, SPACE, Case

GOLDEN = Path(__file__).parent / "golden"
TYPES = {"stars": "number", "seen": "date", "public": "boolean"}
META = Meta("papers", "r" * 12, SPACE.to_json(), ("lang", *TYPES), TYPES)
ANALYSIS = {"analyzer": {"folded": {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "folding"]}},
            "filter": {"folding": {"type": "asciifolding", "preserve_original": True}}}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "lucene": {},
    "lucene_byte": {"vectors": "byte"},
    "lucene_4x": {"compression": 4},
    "lucene_on_disk": {"on_disk": True},
    "whole_source": {"derived_source": False},
    "own_analysis": {"analyzer": "folded", "analysis": ANALYSIS, "settings": {"codec": "best_compression"}},
    "faiss": {"engine": "faiss"},
    "faiss_half": {"engine": "faiss", "vectors": "half"},
    "faiss_8x": {"engine": "faiss", "compression": 8},
    "faiss_on_disk": {"engine": "faiss", "on_disk": True},
    "faiss_on_disk_16x": {"engine": "faiss", "on_disk": True, "compression": 16},
    "faiss_on_disk_whole": {"engine": "faiss", "on_disk": True, "compression": 1},
    "faiss_gpu": {"engine": "faiss", "gpu_build": True, "derived_source": True},
}
QUERY = Query(text="steam engines", vector=np.arange(1, DIMENSIONS + 1, dtype=np.float32), k=10,
              filters=(equals("tenant", "acme"), equals("metadata.stars", "4.5")))  # fmt: skip


def settings(values: dict[str, Any]) -> IndexSettings:
    return IndexSettings.model_validate({"target": "opensearch", "url": "http://127.0.0.1:1", **values})


def bodies(values: dict[str, Any]) -> dict[str, Any]:
    s = settings(values)
    vector = Query(vector=QUERY.vector, k=QUERY.k, filters=QUERY.filters)
    return {"index": index_body(s, "papers-one", META, DIMENSIONS, 2), "while loading": load_profile(s),
            "afterwards": search_profile(s), "search": search_body(vector, s)}  # fmt: skip


def same_as_golden(name: str, found: Any) -> None:
    path = GOLDEN / f"{name}.json"
    plain = json.loads(json.dumps(found, default=lambda value: value.tolist()))
    if os.environ.get("GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(plain, indent=1) + "\n")
    if not path.exists():
        pytest.fail(f"{path} is missing; make it by GOLDEN=1 pytest tests/targets -k golden")
    assert plain == json.loads(path.read_text())


@pytest.mark.parametrize("name", CASES)
def test_the_bodies_are_the_golden_ones(name: str) -> None:
    same_as_golden(name, bodies(CASES[name]))


def test_the_body_of_a_hybrid_search_is_the_golden_one() -> None:
    same_as_golden("hybrid", search_body(QUERY, settings({"server_hybrid": True})))


def test_no_golden_file_is_left_without_its_test() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*CASES, "hybrid"}


class TestRealNode:
    @pytest.fixture
    def case(self, opensearch_url: str) -> Iterator[Case]:
        made = Case(opensearch_url)
        yield made
        delete_indices(opensearch_url, made.corpus)

    @pytest.mark.parametrize("name", CASES)
    def test_it_takes_the_index_body_and_gives_it_back(self, case: Case, name: str) -> None:
        """Of faiss only the mapping is read: an index without a row builds no graph, and needs no native library."""
        values = {**CASES[name], "faiss_installed": True}
        if CASES[name].get("gpu_build"):  # refused by name where the cluster has no service for it
            values.pop("gpu_build")
        target = case.target(**values)
        target.create(case.name, meta_of(case), DIMENSIONS)
        target.begin_load(case.name)
        case.send("PUT", f"/{case.name}/_settings", {"index": load_profile(settings(CASES[name]))})
        case.send("PUT", f"/{case.name}/_settings", {"index": search_profile(settings(CASES[name]))})

    def test_it_knows_the_setting_of_a_gpu_build(self, case: Case) -> None:
        case.send("PUT", f"/{case.name}", bodies(CASES["faiss_gpu"])["index"] | {"aliases": {}})
        found = case.send("GET", f"/{case.name}/_settings")[case.name]["settings"]["index"]
        assert found["knn.remote_index_build"] == {"enabled": "true"}

    def test_faiss_may_build_graphs_again_before_the_last_rows_are_written_out_and_merged(self, case: Case) -> None:
        """On an index without rows, as none could be indexed here."""
        asked = []

        def rule(request: Request) -> None:
            asked.append((request.path.partition("?")[0].rpartition("/")[2], request.body))

        case.target(engine="faiss", faiss_installed=True).create(case.name, meta_of(case), DIMENSIONS)
        with faulty_opensearch(case.url, rule) as url:
            target = case.target(url=url, engine="faiss")
            target.begin_load(case.name)
            target.finish_load(case.name)
        steps = [(name, json.loads(body)["index"].get("knn.advanced.approximate_threshold", "unset") if name == "_settings" else "")
                 for name, body in asked if name in ("_settings", "_refresh", "_forcemerge")]  # fmt: skip
        assert steps == [("_settings", "-1"), ("_settings", None), ("_refresh", ""), ("_forcemerge", ""), ("_refresh", ""),
                         ("_settings", "unset"), ("_settings", None)]  # fmt: skip

    def test_it_takes_a_pipeline_with_each_search_of_a_request(self, case: Case) -> None:
        """As a hybrid search sends its own; this node has other processors, to the same effect on the request."""
        case.send("PUT", f"/{case.name}")
        for number in range(3):
            case.send("PUT", f"/{case.name}/_doc/{number}?refresh=true", {"n": number})
        cut = {"response_processors": [{"truncate_hits": {"target_size": 1}}]}
        answers = case.search_lines(case.name, [{"size": 3, "search_pipeline": cut}, {"size": 3}])
        assert [len(answer["hits"]["hits"]) for answer in answers] == [1, 3]

    def test_without_the_plugin_it_says_that_it_knows_no_hybrid_query(self, case: Case) -> None:
        case.create()
        with pytest.raises(TargetError, match=r"unknown query \[hybrid\]"):
            case.target().search(case.name, [Query(text="steam", vector=QUERY.vector)])


def meta_of(case: Case) -> Meta:
    """Of a model whose vectors may be whole numbers."""
    return Meta(case.corpus, META.run_id, META.space | {"normalized": False}, META.metadata_fields, META.metadata_types)
