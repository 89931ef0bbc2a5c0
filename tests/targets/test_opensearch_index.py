"""An index made for a generation: exactly what the settings ask for, exactly what was written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.document import ROW_FIELDS, row_digest
from pipelines.errors import NewerFormat, SettingsError, SpaceMismatch, TargetError
from pipelines.targets.opensearch_mapping import shards_for
from tests.fixtures.faulty_opensearch import Act, Answer, Forward, Request, faulty_opensearch, in_turn
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import DIMENSIONS, FORMS, SPACE, Case, chunk, chunks, table

SCALARS = [
    2**53 + 1,
    -(2**63),
    2**63 - 1,
    2**63,
    2**64 - 1,
    0,
    -1,
    1.0,
    -0.0,
    1e22,
    5e-324,
    0.1,
    True,
    False,
    None,
    "",
    "x" * 40_000,
    "\x00\u2028\U0001f682",
]

TEXTS = ["", " ", "plain", "\u00e9\u4e2d\U0001f682", "\x00\x01\x1f\x7f\x80\u2028\ufeff\uffff\U0010ffff", "\n\r\t\"\\/",
         "\u00fc" * 50_000, "x" * 100_000]  # fmt: skip


@pytest.fixture
def case(opensearch_url: str) -> Iterator[Case]:
    made = Case(opensearch_url)
    yield made
    delete_indices(opensearch_url, made.corpus)


def load(case: Case, *tables: Any) -> None:
    target = case.target()
    target.begin_load(case.name)
    target.load(case.name, tables)
    target.finish_load(case.name)


def settings_of(case: Case) -> dict[str, Any]:
    return dict(case.send("GET", f"/{case.name}/_settings")[case.name]["settings"]["index"])


class TestExactness:
    @pytest.fixture(params=FORMS)
    def case(self, opensearch_url: str, request: pytest.FixtureRequest) -> Iterator[Case]:
        made = Case(opensearch_url, FORMS[request.param])
        yield made
        delete_indices(opensearch_url, made.corpus)

    def test_every_bit_of_a_vector_comes_back_from_one_merged_segment(self, case: Case) -> None:
        bits = np.random.default_rng(5).integers(0, 2**32, (400, DIMENSIONS), dtype=np.uint64).astype(np.uint32)
        values = bits.view(np.float32)
        values[~np.isfinite(values)] = 1.0
        values[np.abs(values) > 1e18] = 2.0  # cosine squares them
        values[:, 0] = np.linspace(0.1, 1, 400, dtype=np.float32)
        values[0, 1:4] = [-0.0, 1e-45, -1.1754942e-38]
        case.create()
        load(case, table(chunks(0, 200), values[:200]), table(chunks(200, 400), values[200:], first=200))
        found = np.concatenate([page.vectors for page in case.target().scan(case.name, "p")])
        assert found.tobytes() == values.tobytes()

    def test_metadata_comes_back_as_it_went(self, case: Case) -> None:
        case.create()
        sent = [chunk(n, metadata={"lang": "en", "value": value}) for n, value in enumerate(SCALARS)]
        load(case, table(sent))
        found = [row for page in case.target().scan(case.name, "p") for row in page.rows]
        assert [repr(row["metadata"]["value"]) for row in found] == [repr(value) for value in SCALARS]
        assert [row_digest(row) for row in found] == [row_digest(each.row()) for each in sent]

    def test_texts_come_back_as_they_went(self, case: Case) -> None:
        case.create()
        sent = [chunk(n, text=text, title=text[:100], uri=text[:100]) for n, text in enumerate(TEXTS)]
        sent.append(
            chunk(len(sent), tenant="\U0001f682", doc_type="", date="2024-05-17", metadata={"lang": ["en", "fr"]})
        )
        load(case, table(sent))
        found = [row for page in case.target().scan(case.name, "p") for row in page.rows]
        assert [{name: row[name] for name in ROW_FIELDS} for row in found] == [each.row() for each in sent]
        assert [row["row_digest"] for row in found] == [row_digest(each.row()) for each in sent]

    def test_texts_that_are_long_scan_in_small_pages(self, case: Case) -> None:
        case.create()
        load(case, table([chunk(n, text="." * 2_000_000) for n in range(16)]))
        assert [len(page.rows) for page in case.target().scan(case.name, "p")] == [8, 4, 4]


class TestScan:
    def test_rows_of_one_number_and_id_are_all_scanned_though_a_page_ends_between_them(self, case: Case) -> None:
        case.create()
        for key in range(20):
            case.send("PUT", f"/{case.name}/_doc/k{key}?refresh=true", {"partition": "p", "number": 7, "id": "same"})
        keys = [key for page in case.target().scan(case.name, "p") for key in page.keys]
        assert sorted(keys) == sorted(f"k{key}" for key in range(20))

    @pytest.mark.parametrize("odd", [{}, {"number": "3"}, {"text": 5}, {"text": ["a", "b"]}, {"number": 1.0},
                                     {"partition": ["p", "q"]}, {"title": None}])  # fmt: skip
    def test_whatever_a_mapping_takes_can_be_scanned(self, case: Case, odd: dict[str, Any]) -> None:
        case.create()
        case.send("PUT", f"/{case.name}/_doc/odd?refresh=true", {"partition": "p"} | odd)
        (page,) = case.target().scan(case.name, "p")
        assert (page.keys, page.rows[0]["number"]) == (["odd"], -1)
        assert np.isnan(page.vectors).all()

    def test_rows_without_a_partition_are_those_of_the_empty_string(self, case: Case) -> None:
        case.create()
        for key, row in {"none": {"title": "x"}, "empty": {"partition": ""}, "other": {"partition": "p"}}.items():
            case.send("PUT", f"/{case.name}/_doc/{key}?refresh=true", row)
        assert case.target().partitions(case.name) == {"": 2, "p": 1}
        assert case.target().count(case.name, "") == 2
        assert sorted(key for page in case.target().scan(case.name, "") for key in page.keys) == ["empty", "none"]


class TestHealth:
    def test_more_copies_than_nodes_are_refused_before_anything_is_made(self, case: Case) -> None:
        target = case.target(replicas=1)
        with pytest.raises(
            SettingsError, match=r"index\.replicas 1 takes 2 data nodes and the cluster has 1: .*replicas 0"
        ):
            target.create(case.name, case.meta, DIMENSIONS)
        assert target.find(case.name) is None

    def test_more_copies_than_nodes_are_not_waited_for(self, case: Case) -> None:
        case.create()
        health = case.target(replicas=1).health(case.name, wait_s=60)
        assert (health.sound, "set index.replicas 0" in health.advice) == (False, True)

    def test_a_copy_that_no_node_takes_is_missing_until_the_settings_are_restored(self, case: Case) -> None:
        case.create()
        load(case)
        case.send("PUT", f"/{case.name}/_settings", {"index": {"number_of_replicas": 1}})
        assert not case.target().health(case.name).sound
        case.target().finish_load(case.name)
        assert case.target().health(case.name).sound

    def test_settings_of_a_load_that_was_not_finished_are_named(self, case: Case) -> None:
        case.create()
        health = case.target().health(case.name)
        assert (health.sound, health.advice) == (False, "")
        assert "refresh off" in health.found

    def test_the_dimension_is_that_of_the_mapping_whatever_meta_says(self, case: Case) -> None:
        case.create()
        load(case, table(chunks(0, 3)))
        space = SPACE.to_json() | {"dimensions": 5}
        meta = case.send("GET", f"/{case.name}/_mapping")[case.name]["mappings"]["_meta"]
        case.send("PUT", f"/{case.name}/_mapping", {"_meta": {"backhaul": meta["backhaul"] | {"space": space}}})
        (page,) = case.target().scan(case.name, "p")
        assert page.vectors.shape == (3, DIMENSIONS)
        assert np.isfinite(page.vectors).all()


class TestLoadProfile:
    def test_it_is_set_while_loading_and_restored_after(self, case: Case) -> None:
        case.create()
        target = case.target(replicas=2)
        target.begin_load(case.name)
        during = settings_of(case)
        target.finish_load(case.name)
        assert (during["refresh_interval"], during["number_of_replicas"]) == ("-1", "0")
        after = settings_of(case)
        assert ("refresh_interval" in after, after["number_of_replicas"]) == (False, "2")

    def test_each_shard_ends_as_one_segment(self, case: Case) -> None:
        case.create()
        load(case, *(table(chunks(n, n + 5), first=n) for n in range(0, 50, 5)))
        (shards,) = case.send("GET", f"/{case.name}/_segments")["indices"][case.name]["shards"].values()
        assert [shard["num_search_segments"] for shard in shards] == [1]

    def test_a_merge_whose_answer_is_lost_is_asked_again(self, case: Case) -> None:
        case.create()
        asked = []

        def rule(request: Request) -> Act | None:
            if "_forcemerge" in request.path:
                asked.append(request)
            return Forward(then="lose") if "_forcemerge" in request.path and len(asked) == 1 else None

        with faulty_opensearch(case.url, rule) as url:
            case.target(url=url).finish_load(case.name)
        assert len(asked) == 2

    @pytest.mark.parametrize(("cause", "times"), [("node_not_connected_exception", 2), ("illegal_state_exception", 1)])
    def test_a_merge_is_asked_again_where_a_node_went_away_and_fails_for_any_other_reason(
        self, case: Case, cause: str, times: int
    ) -> None:
        case.create()
        asked = []
        # As the real node spells it.
        reason = {
            "type": "failed_node_exception",
            "reason": "Failed node [a]",
            "caused_by": {"type": cause, "reason": "b"},
        }
        failed = {"total": 1, "successful": 0, "failed": 1,
                  "failures": [{"shard": 0, "index": case.name, "status": "INTERNAL_SERVER_ERROR", "reason": reason}]}  # fmt: skip

        def rule(request: Request) -> Act | None:
            if "_forcemerge" in request.path:
                asked.append(request)
                return Answer(200, {"_shards": failed}) if len(asked) == 1 else None
            return None

        fails = contextlib.nullcontext() if times == 2 else pytest.raises(TargetError, match=cause)
        with faulty_opensearch(case.url, rule) as url, fails:
            case.target(url=url).finish_load(case.name)
        assert len(asked) == times


class TestShape:
    @pytest.mark.parametrize(
        ("changed", "named"), [({"analyzer": "standard"}, "text.analyzer"), ({"m": 24}, "parameters.m"),
                               ({"shards": 2}, "number_of_shards")]
    )  # fmt: skip
    def test_an_index_made_with_other_settings_is_refused_before_a_load(
        self, case: Case, changed: dict[str, Any], named: str
    ) -> None:
        case.create()
        target = case.target(**changed)
        for refused in (target.begin_load, lambda name: target.load(name, []), target.finish_load):
            with pytest.raises(TargetError, match=named):
                refused(case.name)

    def test_a_field_that_somebody_added_is_refused(self, case: Case) -> None:
        case.create()
        case.send("PUT", f"/{case.name}/_mapping", {"properties": {"extra": {"type": "keyword"}}})
        with pytest.raises(TargetError, match="extra: absent here, present there"):
            case.target().begin_load(case.name)

    def test_an_index_that_is_not_ours_is_refused_and_left_alone(self, case: Case) -> None:
        case.send("PUT", f"/{case.name}")
        with pytest.raises(TargetError, match="not made by Backhaul"):
            case.create()
        with pytest.raises(TargetError, match="not made by Backhaul"):
            case.target().drop(case.name)
        assert case.target().find(case.name) is None
        assert settings_of(case)

    def test_another_space_is_refused_field_by_field(self, case: Case) -> None:
        case.create()
        other = replace(case.meta, space=replace(SPACE, pooling="cls", max_tokens=512).to_json())
        with pytest.raises(SpaceMismatch, match=r"(?s)pooling: 'cls' here, 'mean' there.*max_tokens: 512 here"):
            case.target().create(case.name, other, DIMENSIONS)

    def test_an_index_of_a_newer_format_is_refused_by_name(self, case: Case) -> None:
        case.create()
        newer = {"backhaul": {"format": 2, "corpus": case.corpus}}
        case.send("PUT", f"/{case.name}/_mapping", {"_meta": newer})
        with pytest.raises(NewerFormat, match=f"{case.name}.*format 2"):
            case.create()

    def test_an_analyzer_the_cluster_lacks_is_named(self, case: Case) -> None:
        with pytest.raises(TargetError, match="klingon"):
            case.target(analyzer="klingon").create(case.name, case.meta, DIMENSIONS)

    @pytest.mark.parametrize("name", ["*", "a,b", "Upper", "_all", "", "a/b"])
    def test_a_name_that_is_a_pattern_or_no_name_is_refused(self, case: Case, name: str) -> None:
        with pytest.raises(SettingsError, match="cannot be the name"):
            case.target().drop(name)


class TestShards:
    @pytest.mark.parametrize(("rows", "processors", "shards"), [
        (0, 8, 1), (9_999, 8, 1), (10_000, 8, 2), (30_000, 2, 4), (10**6, 2, 4), (10**6, 64, 16), (10**9, 2, 158)])  # fmt: skip
    def test_as_many_as_keep_the_processors_busy_and_as_the_size_asks(
        self, rows: int, processors: int, shards: int
    ) -> None:
        assert shards_for(rows, 384, processors) == shards

    def test_many_rows_are_laid_out_over_the_processors_and_made_again_are_taken_as_they_are(self, case: Case) -> None:
        target = case.target()
        made = target.create(case.name, case.meta, DIMENSIONS, rows=20_000)
        settings = case.send("GET", f"/{case.name}/_settings")[case.name]["settings"]["index"]
        assert 1 < int(settings["number_of_shards"]) <= 4
        assert target.create(case.name, case.meta, DIMENSIONS, rows=10) == made
        target.begin_load(case.name)
        target.finish_load(case.name)


def test_a_generation_whose_making_was_answered_by_nobody_and_then_by_half_an_answer_is_made_once(case: Case) -> None:
    rule = in_turn([Forward(then="lose"), Forward(then="garble"), Forward(then="truncate")], path=case.name)
    with faulty_opensearch(case.url, rule) as url:
        made = case.target(url=url).create(case.name, case.meta, DIMENSIONS)
    assert made == case.target().find(case.name)
