"""Bulk writing: good rows survive bad ones, and every failure is treated by its kind."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import orjson
import pyarrow as pa
import pytest

from pipelines.errors import TargetError
from tests.fixtures.faulty_opensearch import Act, Answer, Forward, Request, bulk_items, error_of, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import DIMENSIONS, FORMS, Case, chunk, chunks, table, vectors

ALL = {each.id for each in chunks(0, 30)}


@pytest.fixture
def case(opensearch_url: str) -> Iterator[Case]:
    made = Case(opensearch_url)
    made.create()
    yield made
    delete_indices(opensearch_url, made.corpus)


class TestDeadLetters:
    @pytest.fixture(params=FORMS)
    def case(self, opensearch_url: str, request: pytest.FixtureRequest) -> Iterator[Case]:
        made = Case(opensearch_url, FORMS[request.param])
        made.create()
        yield made
        delete_indices(opensearch_url, made.corpus)

    def test_documents_the_mapping_refuses_are_named_and_the_others_kept(self, case: Case) -> None:
        bad = {
            3: (chunk(3, metadata={"unknown": 1}), "strict_dynamic_mapping_exception"),
            7: (chunk(7, date="yesterday"), "mapper_parsing_exception"),
            9: (chunk(9, tenant="t" * 40_000), "illegal_argument_exception"),
        }
        rows = [bad[n][0] if n in bad else chunk(n) for n in range(30)]
        loaded = case.target().load(case.name, [table(rows[:15]), table(rows[15:], first=15)])
        assert {(dead.id, dead.document_id, dead.cause) for dead in loaded.dead} == {
            (row.id, row.document.id, cause) for row, cause in bad.values()
        }
        assert all(dead.reason for dead in loaded.dead)
        assert (loaded.rows, case.ids()) == (27, {row.id for n, row in enumerate(rows) if n not in bad})

    @pytest.mark.parametrize(("value", "cause"), [(0.0, "mapper_parsing_exception"), (np.nan, "bad_vector"),
                                                  (np.inf, "bad_vector")])  # fmt: skip
    def test_vectors_without_a_direction_are_refused(self, case: Case, value: float, cause: str) -> None:
        values = vectors(30)
        values[11] = value
        loaded = case.target().load(case.name, [table(chunks(0, 30), values)])
        assert [(dead.id, dead.cause) for dead in loaded.dead] == [(chunk(11).id, cause)]
        assert (loaded.rows, case.ids()) == (29, ALL - {chunk(11).id})

    def test_an_id_that_spoils_the_whole_request_is_found_and_the_others_kept(self, case: Case) -> None:
        made = table(chunks(0, 30))
        ids = made["id"].to_pylist()
        ids[17] = "x" * 513
        made = made.set_column(0, made.schema.field(0), pa.array(ids))
        loaded = case.target().load(case.name, [made])
        assert [(dead.id, dead.document_id) for dead in loaded.dead] == [("x" * 513, "d17")]
        assert "512" in loaded.dead[0].reason
        assert (loaded.rows, case.ids()) == (29, ALL - {chunk(17).id})


class TestFailures:
    def test_a_blocked_index_stops_the_load_at_once(self, case: Case) -> None:
        case.send("PUT", f"/{case.name}/_settings", {"index.blocks.write": True})
        with pytest.raises(TargetError, match=r"cluster_block_exception.*free disk space.*backhaul load CONF"):
            case.target(deadline_s=300).load(case.name, [table(chunks(0, 30))])

    def test_a_generation_dropped_during_the_load_is_noticed(self, case: Case) -> None:
        def batches() -> Iterator[pa.Table]:
            yield table(chunks(0, 10))
            case.send("DELETE", f"/{case.name}")
            yield table(chunks(10, 30))

        with pytest.raises(TargetError, match=case.name):
            case.target().load(case.name, batches())

    @pytest.mark.parametrize(
        "act",
        [
            Answer(429, error_of("rejected_execution_exception")),
            Answer(429, error_of("circuit_breaking_exception")),
            Answer(503, error_of("cluster_manager_not_discovered_exception")),
            Answer(502, b"<html>bad gateway</html>"),
            Answer(200, {"items": []}),
            Forward(then="lose"),
            Forward(then="truncate"),
            Forward(then="garble"),
        ],
        ids=lambda act: f"{getattr(act, 'status', 'lost')}",
    )
    def test_what_passes_by_itself_is_waited_for(self, case: Case, act: Act) -> None:
        tries = count()

        def rule(request: Request) -> Act | None:
            return act if request.path.startswith(f"/{case.name}/_bulk") and next(tries) < 2 else None

        with faulty_opensearch(case.url, rule) as url:
            loaded = case.target(url=url).load(case.name, [table(chunks(0, 30))])
        assert next(tries) > 2
        assert (loaded.rows, loaded.dead, case.ids()) == (30, (), ALL)

    def test_items_that_found_the_queue_full_are_sent_again_alone(self, case: Case) -> None:
        bodies = []

        def rule(request: Request) -> Act | None:
            if "/_bulk" not in request.path:
                return None
            bodies.append(request.body)
            if len(bodies) > 1:
                return None
            ids = [orjson.loads(line)["index"]["_id"] for line in request.body.splitlines()[::2]]
            full = {"type": "rejected_execution_exception", "reason": "queue is full"}
            return Answer(200, {"items": [{"index": {"_id": each, "status": 429, "error": full} if i == 4
                                           else {"_id": each, "status": 201}} for i, each in enumerate(ids)]})  # fmt: skip

        with faulty_opensearch(case.url, rule) as url:
            case.target(url=url).load(case.name, [table(chunks(0, 30))])
        assert [len(body.splitlines()) // 2 for body in bodies] == [30, 1]
        assert case.ids() == {chunk(4).id}

    def test_a_document_that_meets_an_error_nobody_foresaw_is_to_blame_after_a_few_tries(self, case: Case) -> None:
        def rule(request: Request) -> Act | None:
            if "/_bulk" not in request.path:
                return None
            ids = [each for _, each, _ in bulk_items(request.body)]
            bug = (500, {"type": "null_pointer_exception", "reason": "Cannot invoke"})
            return Forward(refuse={ids.index(chunk(4).id): bug}) if chunk(4).id in ids else None

        with faulty_opensearch(case.url, rule) as url:
            loaded = case.target(url=url).load(case.name, [table(chunks(0, 30))])
        assert [(dead.id, dead.number, dead.cause, dead.status) for dead in loaded.dead] == [
            (chunk(4).id, 4, "null_pointer_exception", 500)]  # fmt: skip
        assert case.ids() == ALL - {chunk(4).id}

    def test_bodies_shrink_until_the_limit_of_the_way_there_lets_them_through(self, case: Case) -> None:
        taken = []

        def rule(request: Request) -> Act | None:
            if "/_bulk" not in request.path:
                return None
            if len(request.body) > 4_000:
                return Answer(413)
            taken.append(len(request.body))
            return None

        with faulty_opensearch(case.url, rule) as url:
            loaded = case.target(url=url).load(case.name, [table(chunks(0, 30))])
        assert len(taken) > 2
        assert (loaded.rows, case.ids()) == (30, ALL)

    def test_a_document_over_that_limit_is_refused_alone(self, case: Case) -> None:
        rows = [chunk(n, text="long " * 2000) if n == 5 else chunk(n) for n in range(30)]

        def rule(request: Request) -> Act | None:
            return Answer(413) if len(request.body) > 8_000 else None

        with faulty_opensearch(case.url, rule) as url:
            loaded = case.target(url=url).load(case.name, [table(rows)])
        assert [(dead.id, dead.cause) for dead in loaded.dead] == [(rows[5].id, "http_413")]
        assert case.ids() == {row.id for row in rows} - {rows[5].id}

    def test_the_deadline_ends_it_naming_cause_and_next_command(self, case: Case) -> None:
        def rule(request: Request) -> Act | None:
            return Answer(429, error_of("rejected_execution_exception")) if "/_bulk" in request.path else None

        with (
            faulty_opensearch(case.url, rule) as url,
            pytest.raises(
                TargetError, match=rf"{url}.*for 1 s.*rejected_execution_exception.*`backhaul load CONF` to resume"
            ),
        ):
            case.target(url=url, deadline_s=1).load(case.name, [table(chunks(0, 30))])

    def test_a_shard_that_is_away_is_named_and_no_longer_waited_for_than_the_deadline(self, case: Case) -> None:
        name, nowhere = f"{case.corpus}-two", {"routing.allocation.require._name": "nobody"}
        target = case.target(deadline_s=0.5, settings=nowhere)
        with pytest.raises(TargetError, match="1 of 1 primary shards"):
            target.create(name, case.meta, DIMENSIONS)
        with pytest.raises(TargetError, match=r"unavailable_shards_exception.* not active Timeout: \[500ms\]"):
            target.load(name, [table(chunks(0, 30))])

    @pytest.mark.parametrize("status", [401, 403])
    def test_denied_access_stops_at_once(self, case: Case, status: int) -> None:
        def rule(request: Request) -> Act | None:
            return Answer(status, {"message": "no permissions"}) if "/_bulk" in request.path else None

        with (
            faulty_opensearch(case.url, rule) as url,
            pytest.raises(TargetError, match=r"no permissions.*OPENSEARCH_USERNAME"),
        ):
            case.target(url=url, deadline_s=300).load(case.name, [table(chunks(0, 30))])

    def test_an_error_of_the_source_stops_the_load(self, case: Case) -> None:
        def batches() -> Iterator[pa.Table]:
            yield table(chunks(0, 10))
            raise RuntimeError("the part is damaged")

        with pytest.raises(RuntimeError, match="damaged"):
            case.target().load(case.name, batches())
