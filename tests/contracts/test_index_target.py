"""What every IndexTarget promises, held against each of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.digest import digest_of
from pipelines.document import Chunk, Document, Position, Span, row_digest
from pipelines.embed.embedder import Vectors
from pipelines.errors import AliasMoved, NoGeneration, QueryRefused, SpaceMismatch, TargetError
from pipelines.parts import part_table
from pipelines.space import Space
from pipelines.store import open_store
from pipelines.targets.filters import equals
from pipelines.targets.target import Generation, Hit, IndexTarget, Meta, Query, Rank
from tests.contracts.index_targets import TARGETS, Opener

DIMENSIONS = 8
SPACE = Space("w" * 64, "t" * 64, "mean", "", "", True, 256, DIMENSIONS)
METADATA_FIELDS = ("lang", "stars", "score", "public", "note")
ROWS = 40


@pytest.fixture
def corpus() -> str:
    return f"corpus{uuid.uuid4().hex[:10]}"  # its own name: a server may be shared


@pytest.fixture(params=sorted(TARGETS))
def opener(request: pytest.FixtureRequest, corpus: str) -> Opener:
    return TARGETS[request.param](request, corpus, open_store(f"memory://{corpus}"))


@pytest.fixture
def target(opener: Opener) -> IndexTarget:
    return opener()


@pytest.fixture
def meta(corpus: str) -> Meta:
    return Meta(corpus, "r" * 12, SPACE.to_json(), METADATA_FIELDS)


@pytest.fixture
def generation(target: IndexTarget, meta: Meta) -> Generation:
    return target.create(f"{meta.corpus}-one", meta, DIMENSIONS)


@pytest.fixture
def loaded(target: IndexTarget, generation: Generation) -> str:
    """The name of a generation with every row of ``chunk_of`` loaded and finished."""
    target.begin_load(generation.name)
    target.load(generation.name, batches())
    target.finish_load(generation.name)
    return generation.name


def chunk_of(number: int) -> Chunk:
    """Row ``number``: odd ones have no optional field, even ones have all of them."""
    full = number % 2 == 0
    document = Document(
        id=f"dokument/{number // 2} ü",
        uri=f"papers/{number}.jsonl",
        title=f"Títle {number}" if full else "",
        text="unused",
        position=Position("papers.jsonl", number),
        doc_type="faq" if full else None,
        date="2026-11-03" if full else None,
        tenant="acme" if full else None,
        metadata={"lang": "日本語", "stars": number, "score": number + 0.5, "public": number % 4 == 0, "note": None}
        if full
        else {},
    )
    text = f'Zeile {number}: „quoted“ \\ "and" \n\t𝔘nicode 🚂 ' + ("locomotives pulling" if number == 6 else "plain")  # noqa: RUF001
    return Chunk(document, number % 2, text, Span(number, number + len(text)), text, 7 + number)


def vectors_for(rows: int) -> Vectors:
    vectors = np.random.default_rng(7).standard_normal((rows, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


CHUNKS = [chunk_of(number) for number in range(ROWS)]
VECTORS = vectors_for(ROWS)


def partition_of(number: int) -> str:
    return digest_of(number % 3)[:32]


def batch(numbers: list[int]) -> pa.Table:
    table = part_table([CHUNKS[n] for n in numbers], VECTORS[numbers])
    table = table.append_column("partition", pa.array([partition_of(n) for n in numbers]))
    return table.append_column("number", pa.array(numbers, pa.int64()))


def batches() -> Iterator[pa.Table]:
    """All rows, partition by partition, the rows of each last to first in batches of five."""
    for first in range(3):
        numbers = list(range(first, ROWS, 3))[::-1]
        for start in range(0, len(numbers), 5):
            yield batch(numbers[start : start + 5])


def scanned(target: IndexTarget, name: str, partition: str) -> tuple[list[dict[str, Any]], Vectors]:
    pages = list(target.scan(name, partition))
    if not pages:
        return [], np.empty((0, DIMENSIONS), np.float32)
    return [row for page in pages for row in page.rows], np.concatenate([page.vectors for page in pages])


def ids(target: IndexTarget, name: str) -> set[str]:
    return {row["id"] for partition in target.partitions(name) for row in scanned(target, name, partition)[0]}


class TestCreate:
    def test_a_generation_made_twice_is_the_same_one(self, opener: Opener, meta: Meta) -> None:
        first = opener().create(f"{meta.corpus}-one", meta, DIMENSIONS)
        assert opener().create(f"{meta.corpus}-one", meta, DIMENSIONS) == first
        assert (first.name, first.rows, first.meta) == (f"{meta.corpus}-one", 0, meta)

    def test_another_run_is_refused_under_the_same_name(
        self, target: IndexTarget, generation: Generation, meta: Meta
    ) -> None:
        with pytest.raises(TargetError, match="run_id"):
            target.create(generation.name, replace(meta, run_id="another"), DIMENSIONS)

    def test_another_space_is_refused_under_the_same_name(
        self, target: IndexTarget, generation: Generation, meta: Meta
    ) -> None:
        other = replace(SPACE, weights="x" * 64)
        with pytest.raises(SpaceMismatch, match="weights"):
            target.create(generation.name, replace(meta, space=other.to_json()), DIMENSIONS)

    def test_other_dimensions_are_refused_under_the_same_name(
        self, target: IndexTarget, generation: Generation, meta: Meta
    ) -> None:
        with pytest.raises(TargetError, match="dimension"):
            target.create(generation.name, meta, DIMENSIONS * 2)

    def test_an_absent_generation_is_not_found(self, target: IndexTarget, corpus: str) -> None:
        assert target.find(f"{corpus}-none") is None
        assert target.meta(f"{corpus}-none") is None

    def test_a_generation_says_what_it_is_until_it_is_dropped(
        self, target: IndexTarget, generation: Generation, meta: Meta
    ) -> None:
        assert [target.meta(generation.name) for _ in range(2)] == [meta, meta]
        target.drop(generation.name)
        assert target.meta(generation.name) is None

    def test_a_generation_is_found_with_its_rows_and_meta(
        self, target: IndexTarget, loaded: str, generation: Generation, meta: Meta
    ) -> None:
        assert target.find(loaded) == Generation(loaded, generation.uuid, ROWS, meta)

    def test_a_generation_made_again_has_another_uuid(
        self, target: IndexTarget, generation: Generation, meta: Meta
    ) -> None:
        target.drop(generation.name)
        assert target.create(generation.name, meta, DIMENSIONS).uuid != generation.uuid

    def test_generations_are_listed_by_meta_and_not_by_name(
        self, target: IndexTarget, generation: Generation, meta: Meta
    ) -> None:
        oddly_named = target.create(f"x{uuid.uuid4().hex[:10]}", meta, DIMENSIONS)
        stranger = f"{meta.corpus}-stranger"
        target.create(stranger, replace(meta, corpus=f"other-{meta.corpus}"), DIMENSIONS)
        try:
            assert target.generations(meta.corpus) == sorted([generation, oddly_named], key=lambda found: found.name)
        finally:
            target.drop(oddly_named.name)
            target.drop(stranger)


class TestCondition:
    def test_a_generation_has_the_mapping_that_it_was_made_with(self, target: IndexTarget, loaded: str) -> None:
        assert target.differences(loaded, DIMENSIONS) == []

    def test_vectors_of_other_dimensions_are_named(self, target: IndexTarget, loaded: str) -> None:
        assert target.differences(loaded, DIMENSIONS * 2) == [
            f"vector.dimension: {DIMENSIONS * 2} here, {DIMENSIONS} there"
        ]

    def test_a_loaded_generation_is_sound_without_waiting(self, target: IndexTarget, loaded: str) -> None:
        health = target.health(loaded)
        assert (health.sound, health.advice) == (True, "")
        assert health.found

    def test_an_absent_generation_has_no_health(self, target: IndexTarget, corpus: str) -> None:
        with pytest.raises(TargetError, match=f"{corpus}-none"):
            target.health(f"{corpus}-none")


class TestLoad:
    def test_every_partition_scans_back_in_order_with_every_field(self, target: IndexTarget, loaded: str) -> None:
        for first in range(3):
            numbers = list(range(first, ROWS, 3))
            rows, _ = scanned(target, loaded, partition_of(first))
            assert [row.pop("number") for row in rows] == numbers
            assert {row.pop("partition") for row in rows} == {partition_of(first)}
            assert [row.pop("row_digest") for row in rows] == [row_digest(CHUNKS[n].row()) for n in numbers]
            assert rows == [CHUNKS[n].row() for n in numbers]

    def test_metadata_keeps_its_types(self, target: IndexTarget, loaded: str) -> None:
        rows, _ = scanned(target, loaded, partition_of(0))
        assert {name: type(value) for name, value in rows[0]["metadata"].items()} == {
            "lang": str, "stars": int, "score": float, "public": bool, "note": type(None),
        }  # fmt: skip

    def test_vectors_come_back(self, target: IndexTarget, loaded: str) -> None:
        _, vectors = scanned(target, loaded, partition_of(1))
        expected = VECTORS[list(range(1, ROWS, 3))]
        assert vectors.dtype == np.float32
        if target.exact_vectors:
            assert vectors.tobytes() == expected.tobytes()
        else:
            np.testing.assert_allclose(vectors, expected, atol=1e-2)

    def test_rows_are_counted_whole_and_by_partition(self, target: IndexTarget, loaded: str) -> None:
        expected = {partition_of(first): len(range(first, ROWS, 3)) for first in range(3)}
        assert target.count(loaded) == ROWS
        assert target.partitions(loaded) == expected
        assert {name: target.count(loaded, name) for name in expected} == expected

    def test_rows_that_name_no_partition_are_those_of_the_empty_string(
        self, target: IndexTarget, generation: Generation
    ) -> None:
        table = batch([0, 1]).set_column(
            batch([0]).schema.get_field_index("partition"), "partition", pa.array(["", "p"])
        )
        target.begin_load(generation.name)
        target.load(generation.name, [table])
        target.finish_load(generation.name)
        assert target.partitions(generation.name) == {"": 1, "p": 1}
        assert [row["id"] for row in scanned(target, generation.name, "")[0]] == [CHUNKS[0].id]
        assert target.count(generation.name, "") == 1

    def test_what_a_scan_gives_as_keys_can_be_deleted(self, target: IndexTarget, loaded: str) -> None:
        for page in target.scan(loaded, partition_of(0)):
            target.delete(loaded, page.keys)
        assert target.count(loaded, partition_of(0)) == 0
        assert target.count(loaded) == ROWS - len(range(0, ROWS, 3))

    def test_an_unknown_partition_is_empty(self, target: IndexTarget, loaded: str) -> None:
        assert target.count(loaded, "f" * 32) == 0
        assert list(target.scan(loaded, "f" * 32)) == []

    def test_load_says_how_many_rows_it_wrote(self, target: IndexTarget, generation: Generation) -> None:
        target.begin_load(generation.name)
        result = target.load(generation.name, batches())
        assert (result.rows, result.dead) == (ROWS, ())

    def test_what_was_loaded_is_there_when_another_finishes_the_load(
        self, opener: Opener, generation: Generation
    ) -> None:
        writer = opener()
        writer.begin_load(generation.name)
        writer.load(generation.name, [batch([0, 3, 6])])
        finisher = opener()
        finisher.finish_load(generation.name)
        assert finisher.count(generation.name) == 3

    def test_loading_twice_changes_nothing(self, target: IndexTarget, loaded: str) -> None:
        before = [scanned(target, loaded, partition_of(first))[0] for first in range(3)]
        target.begin_load(loaded)
        target.load(loaded, batches())
        target.finish_load(loaded)
        assert target.count(loaded) == ROWS
        assert [scanned(target, loaded, partition_of(first))[0] for first in range(3)] == before

    def test_an_id_that_comes_twice_in_one_load_is_kept_once(self, target: IndexTarget, generation: Generation) -> None:
        target.begin_load(generation.name)
        target.load(generation.name, [batch([1, 4]), batch([4, 7])])
        target.finish_load(generation.name)
        assert target.count(generation.name) == 3

    def test_loading_nothing_is_no_error(self, target: IndexTarget, generation: Generation) -> None:
        target.begin_load(generation.name)
        assert target.load(generation.name, []).rows == 0
        target.finish_load(generation.name)
        assert target.count(generation.name) == 0
        assert target.partitions(generation.name) == {}

    def test_beginning_and_finishing_may_be_repeated(self, target: IndexTarget, loaded: str) -> None:
        for _ in range(2):
            target.begin_load(loaded)
        for _ in range(2):
            target.finish_load(loaded)
        assert target.count(loaded) == ROWS

    def test_a_generation_that_is_absent_cannot_be_loaded(self, target: IndexTarget, corpus: str) -> None:
        with pytest.raises(TargetError, match=f"{corpus}-none"):
            target.load(f"{corpus}-none", [batch([0])])
        assert target.find(f"{corpus}-none") is None

    def test_deleted_rows_are_gone_and_absent_ids_are_no_error(self, target: IndexTarget, loaded: str) -> None:
        gone = [CHUNKS[n].id for n in (0, 7, 20)]
        target.delete(loaded, [*gone, "0" * 32])
        assert target.count(loaded) == ROWS - 3
        assert ids(target, loaded) == {chunk.id for chunk in CHUNKS} - set(gone)

    def test_deleting_nothing_is_no_error(self, target: IndexTarget, loaded: str) -> None:
        target.delete(loaded, [])
        assert target.count(loaded) == ROWS


class TestSearch:
    def test_lexical_finds_another_form_of_the_word(self, target: IndexTarget, loaded: str) -> None:
        (hits,) = target.search(loaded, [Query(text="the locomotive pulled")])
        assert [hit.id for hit in hits] == [CHUNKS[6].id]

    def test_lexical_searches_titles_too(self, target: IndexTarget, generation: Generation) -> None:
        target.begin_load(generation.name)
        titled = replace(CHUNKS[0], document=replace(CHUNKS[0].document, title="Signalling systems"))
        table = part_table([titled, CHUNKS[2]], VECTORS[:2])
        table = table.append_column("partition", pa.array(["p", "p"])).append_column("number", pa.array([0, 1]))
        target.load(generation.name, [table])
        target.finish_load(generation.name)
        (hits,) = target.search(generation.name, [Query(text="signalling system")])
        assert [hit.id for hit in hits] == [titled.id]

    @pytest.mark.parametrize("text", ['"', "a AND (b", "title:x~ *", "\\", "", "the"])
    def test_any_text_is_words_and_never_syntax(self, target: IndexTarget, loaded: str, text: str) -> None:
        (hits,) = target.search(loaded, [Query(text=text)])
        assert len(hits) <= 10

    @pytest.mark.parametrize("exact", [False, True])
    def test_vectors_rank_by_cosine(self, target: IndexTarget, loaded: str, exact: bool) -> None:
        query = VECTORS[5] + VECTORS[9] * 0.3
        (hits,) = target.search(loaded, [Query(vector=query, exact=exact, k=6)])
        assert [hit.id for hit in hits] == [CHUNKS[n].id for n in np.argsort(-(VECTORS @ query))[:6]]
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_a_hit_carries_the_row(self, target: IndexTarget, loaded: str) -> None:
        (hits,) = target.search(loaded, [Query(vector=VECTORS[4], k=1)])
        chunk = CHUNKS[4]
        (hit,) = hits
        assert (hit.id, hit.document_id, hit.text, hit.title, hit.uri, hit.metadata) == (
            chunk.id, chunk.document.id, chunk.text, chunk.document.title, chunk.document.uri, chunk.document.metadata,
        )  # fmt: skip

    @pytest.mark.parametrize("with_vectors", [False, True])
    @pytest.mark.parametrize(
        "query", [Query(text="plain"), Query(vector=VECTORS[4]), Query(vector=VECTORS[4], exact=True)]
    )
    def test_bare_hits_and_their_rows_are_those_of_a_search_at_once(
        self, target: IndexTarget, loaded: str, query: Query, with_vectors: bool
    ) -> None:
        whole, bare = target.search(
            loaded, [replace(query, with_vectors=with_vectors), replace(query, with_vectors=with_vectors, bare=True)]
        )
        assert len(whole) > 2
        assert [(hit.id, hit.score) for hit in bare] == [(hit.id, hit.score) for hit in whole]
        some = [replace(bare[n], score=float(n), sources={"lexical": Rank(n, 1.0)}) for n in (2, 0)]
        found = target.rows(loaded, some, with_vectors=with_vectors)
        for hit, wanted, asked in zip(found, (whole[2], whole[0]), some, strict=True):
            assert replace(hit, vector=None) == replace(wanted, score=asked.score, sources=asked.sources, vector=None)
            assert with_vectors == (hit.vector is not None)
        assert target.rows(loaded, []) == []

    def test_rows_that_are_gone_are_left_out(self, target: IndexTarget, loaded: str) -> None:
        (hits,) = target.search(loaded, [Query(vector=VECTORS[4], k=3, bare=True)])
        gone = Hit("f" * 32, "", 1.0)
        found = target.rows(loaded, [gone, *hits])
        whole_already = bool(hits[0].text)
        assert [hit.id for hit in found] == [hit.id for hit in ([gone, *hits] if whole_already else hits)]
        assert all(hit.text for hit in found if hit.id != gone.id)

    @pytest.mark.parametrize("exact", [False, True])
    @pytest.mark.parametrize(
        ("field", "value"), [("doc_type", "faq"), ("tenant", "acme"), ("partition", partition_of(1))]
    )
    def test_k_hits_come_from_inside_a_filter(
        self, target: IndexTarget, loaded: str, field: str, value: str, exact: bool
    ) -> None:
        inside = [n for n in range(ROWS) if partition_of(n) == value] if field == "partition" else range(0, ROWS, 2)
        far_away = -VECTORS[list(inside)].mean(axis=0)
        (hits,) = target.search(loaded, [Query(vector=far_away, exact=exact, k=9, filters=(equals(field, value),))])
        best = sorted(inside, key=lambda n: -float(VECTORS[n] @ far_away))[:9]
        assert [hit.id for hit in hits] == [CHUNKS[n].id for n in best]

    def test_lexical_hits_obey_filters(self, target: IndexTarget, loaded: str) -> None:
        document_id = CHUNKS[8].document.id
        (hits,) = target.search(loaded, [Query(text="plain", filters=(equals("document_id", document_id),))])
        assert {hit.id for hit in hits} == {CHUNKS[8].id, CHUNKS[9].id}

    def test_filters_are_joined_by_and(self, target: IndexTarget, loaded: str) -> None:
        filters = (equals("document_id", CHUNKS[8].document.id), equals("tenant", "acme"))
        (hits,) = target.search(loaded, [Query(vector=VECTORS[9], filters=filters)])
        assert [hit.id for hit in hits] == [CHUNKS[8].id]

    def test_a_filter_value_is_never_syntax(self, target: IndexTarget, loaded: str) -> None:
        (hits,) = target.search(loaded, [Query(vector=VECTORS[0], filters=(equals("tenant", "x' OR '1'='1"),))])
        assert hits == []

    def test_an_unknown_filter_is_refused(self, target: IndexTarget, loaded: str) -> None:
        with pytest.raises(QueryRefused, match="colour"):
            target.search(loaded, [Query(text="plain", filters=(equals("colour", "red"),))])

    @pytest.mark.parametrize("query", [Query(text="plain", k=3), Query(vector=VECTORS[0], k=3)])
    def test_no_more_than_k_hits(self, target: IndexTarget, loaded: str, query: Query) -> None:
        (hits,) = target.search(loaded, [query])
        assert len(hits) == 3

    def test_k_beyond_the_rows_gives_every_row(self, target: IndexTarget, loaded: str) -> None:
        (hits,) = target.search(loaded, [Query(vector=VECTORS[0], exact=True, k=ROWS * 2)])
        assert {hit.id for hit in hits} == {chunk.id for chunk in CHUNKS}

    def test_a_batch_answers_each_query_in_its_place(self, target: IndexTarget, loaded: str) -> None:
        queries = [Query(text="locomotive"), *(Query(vector=VECTORS[n], k=1) for n in (3, 11, 2))]
        answers = target.search(loaded, queries)
        assert [hits[0].id for hits in answers] == [CHUNKS[n].id for n in (6, 3, 11, 2)]
        assert target.search(loaded, []) == []

    def test_an_empty_generation_has_no_hits(self, target: IndexTarget, generation: Generation) -> None:
        target.begin_load(generation.name)
        target.finish_load(generation.name)
        assert target.search(generation.name, [Query(text="plain"), Query(vector=VECTORS[0])]) == [[], []]

    def test_a_deleted_row_is_not_found(self, target: IndexTarget, loaded: str) -> None:
        target.delete(loaded, [CHUNKS[6].id])
        lexical, vector = target.search(loaded, [Query(text="locomotive"), Query(vector=VECTORS[6], k=ROWS)])
        assert CHUNKS[6].id not in {hit.id for hit in [*lexical, *vector]}

    def test_searching_an_absent_generation_names_it(self, target: IndexTarget, corpus: str) -> None:
        with pytest.raises(NoGeneration, match=f"{corpus}-none"):
            target.search(f"{corpus}-none", [Query(text="plain")])
        with pytest.raises(NoGeneration, match=f"{corpus}-none"):
            target.chunks(f"{corpus}-none", "d", (), 10)

    def test_the_first_hits_of_a_longer_answer_are_those_of_a_shorter_one(
        self, target: IndexTarget, loaded: str
    ) -> None:
        for query in (Query(text="plain"), Query(vector=VECTORS[0])):
            short, long = target.search(loaded, [replace(query, k=3), replace(query, k=9)])
            assert short == long[:3]

    def test_the_rows_of_a_document_come_in_order(self, target: IndexTarget, loaded: str) -> None:
        document = CHUNKS[8].document
        wanted = sorted(
            (chunk for chunk in CHUNKS if chunk.document.id == document.id), key=lambda chunk: chunk.ordinal
        )
        hits = target.chunks(loaded, document.id, (), 10)
        assert [(hit.id, hit.text, hit.tenant, hit.start, hit.end) for hit in hits] == [
            (chunk.id, chunk.text, chunk.document.tenant, chunk.span.start, chunk.span.end) for chunk in wanted[:10]
        ]
        assert target.chunks(loaded, document.id, (equals("tenant", "somebody else"),), 10) == []

    @pytest.mark.parametrize("query", [Query(text="plain", k=2), Query(vector=VECTORS[1], k=2, exact=True)])
    def test_hits_bring_their_vectors_where_they_are_asked_for(
        self, target: IndexTarget, loaded: str, query: Query
    ) -> None:
        (without,) = target.search(loaded, [query])
        (hits,) = target.search(loaded, [replace(query, with_vectors=True)])
        assert all(hit.vector is None for hit in without)
        numbers = [next(n for n, chunk in enumerate(CHUNKS) if chunk.id == hit.id) for hit in hits]
        for number, hit in zip(numbers, hits, strict=True):
            assert hit.vector is not None
            assert np.allclose(hit.vector, VECTORS[number], atol=1e-6)


class TestRelease:
    @pytest.fixture
    def pair(self, target: IndexTarget, meta: Meta) -> tuple[str, str]:
        first, second = (target.create(f"{meta.corpus}-{name}", meta, DIMENSIONS).name for name in ("one", "two"))
        return first, second

    def test_nothing_is_live_at_first(self, target: IndexTarget, pair: tuple[str, str], corpus: str) -> None:
        assert target.live(corpus) is None

    def test_the_first_release_goes_live(self, opener: Opener, pair: tuple[str, str], corpus: str) -> None:
        opener().move_alias(corpus, None, pair[0])
        assert opener().live(corpus) == pair[0]

    def test_the_alias_moves_and_moves_back(self, target: IndexTarget, pair: tuple[str, str], corpus: str) -> None:
        target.move_alias(corpus, None, pair[0])
        target.move_alias(corpus, pair[0], pair[1])
        assert target.live(corpus) == pair[1]
        target.move_alias(corpus, pair[1], pair[0])
        assert target.live(corpus) == pair[0]

    @pytest.mark.parametrize("expected", [None, "two"])
    def test_a_wrong_expectation_changes_nothing_and_names_the_live_one(
        self, target: IndexTarget, pair: tuple[str, str], corpus: str, expected: str | None
    ) -> None:
        target.move_alias(corpus, None, pair[0])
        with pytest.raises(AliasMoved, match=pair[0]):
            target.move_alias(corpus, expected and pair[1], pair[1])
        assert target.live(corpus) == pair[0]

    def test_an_expectation_where_nothing_is_live_is_wrong(
        self, target: IndexTarget, pair: tuple[str, str], corpus: str
    ) -> None:
        with pytest.raises(AliasMoved):
            target.move_alias(corpus, pair[0], pair[1])
        assert target.live(corpus) is None

    def test_an_absent_generation_cannot_go_live(self, target: IndexTarget, corpus: str) -> None:
        with pytest.raises(TargetError, match=f"{corpus}-none"):
            target.move_alias(corpus, None, f"{corpus}-none")
        assert target.live(corpus) is None

    @pytest.mark.parametrize("released", [False, True])
    def test_of_two_racing_releases_one_wins(
        self, opener: Opener, meta: Meta, pair: tuple[str, str], released: bool
    ) -> None:
        corpus, start = meta.corpus, None
        if released:
            start = opener().create(f"{corpus}-zero", meta, DIMENSIONS).name
            opener().move_alias(corpus, None, start)
        outcomes: dict[str, Exception | None] = {}
        ready = threading.Barrier(2)

        def release(name: str) -> None:
            racer = opener()
            ready.wait(10)
            try:
                racer.move_alias(corpus, start, name)
                outcomes[name] = None
            except Exception as error:
                outcomes[name] = error

        racers = [threading.Thread(target=release, args=(name,)) for name in pair]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(30)
        winners = [name for name, outcome in outcomes.items() if outcome is None]
        assert len(winners) == 1
        assert opener().live(corpus) == winners[0]
        assert isinstance(next(error for error in outcomes.values() if error), AliasMoved)

    def test_the_live_generation_cannot_be_dropped(
        self, target: IndexTarget, pair: tuple[str, str], corpus: str
    ) -> None:
        target.move_alias(corpus, None, pair[0])
        with pytest.raises(TargetError, match="live"):
            target.drop(pair[0])
        assert target.find(pair[0]) is not None

    def test_another_generation_is_dropped(self, target: IndexTarget, pair: tuple[str, str], corpus: str) -> None:
        target.move_alias(corpus, None, pair[0])
        target.drop(pair[1])
        assert [found.name for found in target.generations(corpus)] == [pair[0]]

    def test_dropping_an_absent_generation_is_no_error(self, target: IndexTarget, corpus: str) -> None:
        target.drop(f"{corpus}-none")


def test_a_target_describes_itself(target: IndexTarget) -> None:
    described = target.describe()
    assert described
    assert all(isinstance(value, str) for value in described.values())
    assert target.id
