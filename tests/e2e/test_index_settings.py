"""Whole runs with special index settings on the real node: released after every row and vector was compared."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.embed.backends import open_embedder
from pipelines.targets.filters import equals
from pipelines.targets.target import Query
from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.opensearch import delete_indices

pytestmark = pytest.mark.opensearch


@pytest.fixture
def conf(tmp_path: Path, opensearch_url: str) -> Iterator[Path]:
    corpus = f"case{uuid.uuid4().hex[:10]}"
    source = write_corpus(tmp_path / "source", objects=2, documents=50)
    yield write_conf(tmp_path / "run.yaml", corpus=corpus, root=f"file://{tmp_path}/root", source=f"file://{source}",
                     engine={"workers": 0}, index={"target": "opensearch", "url": opensearch_url, "replicas": 0})  # fmt: skip
    delete_indices(opensearch_url, corpus)


def test_a_run_into_a_compressed_index_of_typed_metadata_is_proved_and_released(conf: Path) -> None:
    special = ["source.fields.metadata={rank: number, lang: keyword}", "index.compression=4", "index.analyzer=folded",
               "index.analysis={analyzer: {folded: {type: custom, tokenizer: standard, filter: [asciifolding]}}}"]  # fmt: skip
    outcome = backhaul_here("run", conf, "--json", *(word for each in special for word in ("--set", each)))
    assert outcome.code == 0, outcome.err
    assert outcome.json["rows"] == 100
    session = Session(load_settings(conf, special), quiet=True)
    vector = open_embedder(session.settings.embed, session.settings.storage).embed(["anything"], "query")[0]
    query = Query(
        vector=vector, k=100, exact=True, filters=(equals("metadata.rank", "7.0"),)
    )  # as a keyword it would be no "7"
    (hits,) = session.target.search(session.live().name, [query])
    assert [hit.metadata["rank"] for hit in hits] == [7, 7]


def test_another_index_setting_makes_another_generation_of_the_same_run_and_embeds_nothing(conf: Path) -> None:
    first = backhaul_here("run", conf, "--json").json
    second = backhaul_here("run", conf, "--json", "--set", "index.compression=4").json
    assert (second["run_id"], second["partitions_embedded"]) == (first["run_id"], 0)
    assert second["generation"] != first["generation"]
    assert second["previous"] == first["generation"]


def test_a_value_of_another_type_is_a_reject_of_the_run(conf: Path) -> None:
    outcome = backhaul_here("run", conf, "--json", "--set", "source.fields.metadata={lang: number}")
    assert "wrong_type" in outcome.err + outcome.out
