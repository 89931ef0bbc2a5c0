"""Special indices on the real node: compressed and whole-number vectors, typed metadata, analysers, templates, fusing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from pipelines.errors import QueryRefused, TargetError
from pipelines.search import How, fuse, search, search_many
from pipelines.targets.filters import equals
from pipelines.targets.target import Hit, IndexTarget, Meta, Query
from tests.fixtures.faulty_opensearch import Answer, Request, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import DIMENSIONS, SPACE, Case, chunk, chunks, table, vectors

TYPES = {"stars": "number", "seen": "date", "public": "boolean"}
ROWS = 600


@pytest.fixture
def case(opensearch_url: str) -> Iterator[Case]:
    made = Case(opensearch_url)
    yield made
    delete_indices(opensearch_url, made.corpus)


def load(target: IndexTarget, name: str, meta: Meta, *tables: Any) -> None:
    target.create(name, meta, DIMENSIONS)
    target.begin_load(name)
    assert target.load(name, tables).dead == ()
    target.finish_load(name)


class TestVectors:
    @pytest.mark.parametrize(
        "values", [{"compression": 4}, {"on_disk": True}, {"compression": 4, "derived_source": False}]
    )
    def test_a_compressed_graph_finds_the_same_and_the_index_gives_every_bit_back(
        self, case: Case, values: dict[str, Any]
    ) -> None:
        target, sent = case.target(**values), vectors(ROWS)
        rows = [chunk(n, tenant="red" if n % 50 == 0 else "blue") for n in range(ROWS)]
        load(target, case.name, case.meta, table(rows, sent))
        found = np.concatenate([page.vectors for page in target.scan(case.name, "p")])
        field = case.send("GET", f"/{case.name}/_mapping")[case.name]["mappings"]["properties"]["vector"]
        assert (field["compression_level"], target.exact_vectors) == ("4x", True)
        assert found.tobytes() == sent.tobytes()
        queries = [Query(vector=vector, k=10) for vector in vectors(20, seed=9)]
        near = target.search(case.name, queries)
        exact = target.search(case.name, [replace(query, exact=True) for query in queries])
        shares = [len({hit.id for hit in a} & {hit.id for hit in b}) / 10 for a, b in zip(near, exact, strict=True)]
        assert np.mean(shares) >= 0.95
        # Scored again with whole vectors: one scale for both, as the recall gate takes it.
        for answer, truth in zip(near, exact, strict=True):
            assert answer[0].score == pytest.approx(truth[0].score, abs=1e-6)
        (inside,) = target.search(case.name, [replace(queries[0], filters=(equals("tenant", "red"),))])
        assert {hit.document_id for hit in inside} <= {f"d{n}" for n in range(0, ROWS, 50)}
        assert len(inside) == 10

    def test_whole_numbers_are_kept_as_bytes_and_come_back_exactly(self, case: Case) -> None:
        sent = np.random.default_rng(1).integers(-128, 128, (ROWS, DIMENSIONS)).astype(np.float32)
        meta = replace(case.meta, space=replace(SPACE, normalized=False).to_json())
        target = case.target(vectors="byte")
        load(target, case.name, meta, table(chunks(0, ROWS), sent))
        found = np.concatenate([page.vectors for page in target.scan(case.name, "p")])
        assert found.tobytes() == sent.tobytes()
        (near,), (exact,) = (target.search(case.name, [Query(vector=sent[7], exact=e)]) for e in (False, True))
        assert near[0].id == exact[0].id == chunk(7).id

    def test_vectors_that_are_no_bytes_are_refused_and_not_rounded(self, case: Case) -> None:
        target = case.target(vectors="byte")
        with pytest.raises(TargetError, match=r"this model's vectors are normalised; set index\.compression: 4"):
            target.create(case.name, case.meta, DIMENSIONS)
        meta = replace(case.meta, space=replace(SPACE, normalized=False).to_json())
        target.create(case.name, meta, DIMENSIONS)
        sent = np.ones((3, DIMENSIONS), np.float32)
        for wrong in (0.5, 128.0):
            sent[1, 2] = wrong
            with pytest.raises(TargetError, match=rf"a vector holds {wrong}"):
                target.load(case.name, [table(chunks(0, 3), sent)])
        assert target.count(case.name) == 0


class TestMetadata:
    @pytest.fixture
    def typed(self, case: Case) -> Case:
        meta = Meta(case.corpus, "r" * 12, SPACE.to_json(), ("lang", *TYPES), TYPES)
        values = [{"lang": "en", "stars": 4.5, "seen": "2024-05-17T10:00:00", "public": True},
                  {"lang": 4.5, "stars": 2**40 + 1, "seen": "2024-05-17", "public": False}, {}]  # fmt: skip
        load(case.target(), case.name, meta, table([chunk(n, metadata=found) for n, found in enumerate(values)]))
        return case

    @pytest.mark.parametrize(
        ("field", "value", "rows"),
        [("lang", "en", {0}), ("lang", "4.5", {1}), ("stars", "4.5", {0}), ("stars", "45e-1", {0}), ("stars", str(2**40 + 1), {1}),
         ("stars", str(2**40), set()), ("public", "true", {0}), ("public", "false", {1}), ("seen", "2024-05-17", {0, 1}),
         ("seen", "2024-05-17T10:00:00", {0}), ("seen", "2024-06", set())],
    )  # fmt: skip
    def test_a_filter_means_what_the_type_says(self, typed: Case, field: str, value: str, rows: set[int]) -> None:
        filters = (equals(f"metadata.{field}", value),)
        for query in (Query(text="row", filters=filters), Query(vector=vectors(1)[0], filters=filters)):
            (hits,) = typed.target().search(typed.name, [query])
            assert {hit.id for hit in hits} == {chunk(n).id for n in rows}

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [("stars", "many", r"metadata\.stars is a number, which 'many' is not"), ("public", "yes", "is a boolean"),
         ("seen", "yesterday", "is a date"), ("colour", "red", r"cannot filter by 'metadata\.colour'; .*metadata\.stars")],
    )  # fmt: skip
    def test_a_filter_that_cannot_match_is_refused(self, typed: Case, field: str, value: str, said: str) -> None:
        with pytest.raises(QueryRefused, match=said):
            typed.target().search(typed.name, [Query(text="row", filters=(equals(f"metadata.{field}", value),))])

    def test_types_are_part_of_what_a_generation_is(self, typed: Case) -> None:
        found = typed.target().find(typed.name)
        assert found is not None
        assert found.meta.metadata_types == TYPES
        with pytest.raises(TargetError, match="metadata_types"):
            typed.target().create(typed.name, replace(found.meta, metadata_types={}), DIMENSIONS)

    def test_a_value_of_another_type_is_a_dead_letter_with_its_reason(self, typed: Case) -> None:
        """The reader rejects it before; rows of other makers are refused by the index itself."""
        loaded = typed.target().load(typed.name, [table([chunk(9, metadata={"public": "perhaps"})], first=9)])
        assert [letter.cause for letter in loaded.dead] == ["mapper_parsing_exception"]


ANALYSIS = {"analyzer": {"pairs": {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "gram"]}},
            "filter": {"gram": {"type": "edge_ngram", "min_gram": 3, "max_gram": 8}}}  # fmt: skip


class TestAnalysis:
    def test_an_analyser_of_the_settings_is_used(self, case: Case) -> None:
        target = case.target(analyzer="pairs", analysis=ANALYSIS, settings={"codec": "best_compression"})
        load(target, case.name, case.meta, table([chunk(0, text="locomotives"), chunk(1, text="wagons")]))
        (hits,) = target.search(case.name, [Query(text="loco")])
        assert [hit.id for hit in hits] == [chunk(0, text="locomotives").id]
        assert (
            case.send("GET", f"/{case.name}/_settings")[case.name]["settings"]["index"]["codec"] == "best_compression"
        )

    def test_another_analysis_under_the_same_name_is_refused(self, case: Case) -> None:
        case.target(analyzer="pairs", analysis=ANALYSIS).create(case.name, case.meta, DIMENSIONS)
        other = orjson.loads(orjson.dumps(ANALYSIS))
        other["filter"]["gram"]["max_gram"] = 9
        with pytest.raises(TargetError, match=r"analysis\.filter\.gram\.max_gram: 9 here, '8' there"):
            case.target(analyzer="pairs", analysis=other).begin_load(case.name)

    @pytest.mark.parametrize(
        ("values", "said"),
        [({"analyzer": "mine", "analysis": {"analyzer": {"mine": {"type": "custom", "tokenizer": "nope"}}}}, "tokenizer under name"),
         ({"settings": {"codecs": "zlib"}}, r"unknown setting \[index\.codecs\] did you mean \[index\.codec\]"),
         ({"analyzer": "klingon"}, "klingon")],
    )  # fmt: skip
    def test_what_the_node_does_not_know_is_told_with_the_keys_to_look_at(
        self, case: Case, values: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(TargetError, match=rf"{said}.*look at index\.analyzer, index\.analysis and index\.settings"):
            case.target(**values).create(case.name, case.meta, DIMENSIONS)


class TestTemplates:
    def put(self, request: pytest.FixtureRequest, case: Case, path: str, body: Any) -> None:
        case.send("PUT", path, body)
        request.addfinalizer(lambda: case.send("DELETE", path))

    def test_one_that_adds_a_field_is_told_by_doctor_and_named_when_the_index_differs(
        self, case: Case, request: pytest.FixtureRequest
    ) -> None:
        name = f"{case.corpus}-template"
        template = {
            "settings": {"number_of_shards": 3, "codec": "zlib"},
            "mappings": {"properties": {"extra": {"type": "keyword"}}},
        }
        body = {"index_patterns": [f"{case.corpus}*"], "priority": 7, "template": template}
        self.put(request, case, f"/_index_template/{name}", body)
        told = case.target().capabilities()["templates that match"]
        assert told.startswith(f"index template '{name}' matches and adds field extra, setting index.")
        with pytest.raises(TargetError, match=rf"extra: absent here, present there.*index template '{name}' matches"):
            case.create()

    def test_older_ones_count_only_where_no_other_matches(self, case: Case, request: pytest.FixtureRequest) -> None:
        old = f"{case.corpus}-old"
        self.put(
            request, case, f"/_template/{old}", {"index_patterns": [f"{case.corpus}-*"], "settings": {"codec": "zlib"}}
        )
        assert (
            f"'{old}' matches and adds setting index.codec=zlib" in case.target().capabilities()["templates that match"]
        )
        newer = {"index_patterns": [f"{case.corpus}-*"], "priority": 5, "template": {}}
        self.put(request, case, f"/_index_template/{case.corpus}-new", newer)
        assert (
            case.target().capabilities()["templates that match"]
            == f"index template '{case.corpus}-new' matches and adds nothing"
        )

    def test_where_none_matches_it_says_none(self, case: Case) -> None:
        assert case.target().capabilities()["templates that match"] == "none"


class OneVector:
    """An embedder whose every text is the first of the rows' vectors."""

    space = SPACE
    maker = None

    def embed(self, texts: list[str], role: str, ids: object = None) -> Any:
        return np.stack([vectors(1)[0] for _ in texts])


class TestHybrid:
    def test_where_the_cluster_cannot_fuse_it_is_fused_here(self, case: Case) -> None:
        load(case.target(), case.name, case.meta, table(chunks(0, 30)))
        here, there = (
            search(case.target(server_hybrid=wanted), OneVector(), case.name, "row 7", How(k=5))  # type: ignore[arg-type]
            for wanted in (False, True)
        )
        assert [(hit.id, hit.score) for hit in there] == [(hit.id, hit.score) for hit in here]

    def test_where_it_can_one_query_is_sent_and_its_order_kept(self, case: Case) -> None:
        load(case.target(), case.name, case.meta, table(chunks(0, 3)))
        asked: list[Any] = []

        def rule(request: Request) -> Answer | None:
            """A node with the neural-search plugin, which fuses as its documentation says."""
            if request.path.startswith("/_nodes/search_pipelines"):
                phases = {"phase_results_processors": [{"type": "score-ranker-processor"}]}
                return Answer(200, {"nodes": {"a": {"search_pipelines": phases}}})
            if "_msearch" not in request.path:
                return None
            asked.extend(map(orjson.loads, request.body.splitlines()[1::2]))
            rank = [
                {"_id": i, "_score": s, "_source": {"document_id": i}}
                for i, s in (("b", 0.03), ("a", 0.02), ("c", 0.01))
            ]
            return Answer(200, {"responses": [{"hits": {"hits": rank}}] * 2})

        with faulty_opensearch(case.url, rule) as url:
            target = case.target(url=url, server_hybrid=True)
            answers = search_many(target, OneVector(), case.name, ["row", "rows"], How(k=2))  # type: ignore[arg-type]
        assert [[(hit.id, hit.score) for hit in hits] for hits in answers] == [[("b", 0.03), ("a", 0.02)]] * 2
        assert [list(body["query"]) for body in asked] == [["hybrid"]] * 2
        assert {body["size"] for body in asked} == {100}  # as deep as it is fused here

    def test_the_cluster_is_asked_for_the_formula_of_our_own(self) -> None:
        from pipelines.search import RANK_CONSTANT
        from pipelines.targets.opensearch_search import fusing_pipeline

        (phase,) = fusing_pipeline()["phase_results_processors"]
        assert phase == {
            "score-ranker-processor": {"combination": {"technique": "rrf", "rank_constant": RANK_CONSTANT}}
        }
        (first,) = fuse([[Hit("a", "a", 1.0, "")]])
        assert first.score == 1 / (RANK_CONSTANT + 1)
