"""What the embedded index promises beyond the contract: places, races, half-done work, files, the graph."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import NewerFormat, QueryRefused, SettingsError, TargetError
from pipelines.releases import ReleaseLog
from pipelines.storage import StorageSettings
from pipelines.store import open_store
from pipelines.targets.filters import equals
from pipelines.targets.lancedb_rows import mark_dropped, table_schema
from pipelines.targets.on_lancedb import LanceTarget
from pipelines.targets.target import IndexSettings, Meta, Query
from tests.fixtures.s3 import Bucket

META = Meta("papers", "r" * 12, {"dimensions": 16}, ())
DIMENSIONS = 16


def opened(uri: str, *, storage: StorageSettings | None = None, settings: IndexSettings | None = None,
           store: str | None = None) -> LanceTarget:  # fmt: skip
    log = ReleaseLog(open_store(store or f"memory://{uuid.uuid4().hex}"), "papers")
    return LanceTarget(settings or IndexSettings(), uri, storage or StorageSettings(), log)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lancedb"


@pytest.fixture
def target(folder: Path) -> LanceTarget:
    found = opened(folder.as_uri())
    found.create("g", META, DIMENSIONS)
    return found


def rows(numbers: range, *, partition: str = "p", seed: int = 0, clusters: int = 0, text: str = "a row") -> pa.Table:
    """Random rows with ids of their numbers; ``clusters`` makes vectors with neighbourhoods."""
    rng, count = np.random.default_rng(seed), len(numbers)
    vectors = rng.standard_normal((count, DIMENSIONS)).astype(np.float32)
    if clusters:
        vectors = rng.standard_normal((clusters, DIMENSIONS))[rng.integers(clusters, size=count)] + 0.3 * vectors
    ids = [f"{number:032x}" for number in numbers]
    digest, empty = pa.array([bytes(32)] * count, pa.binary(32)), pa.array([None] * count, pa.string())
    columns = {
        "id": ids, "document_id": ids, "tenant": empty, "uri": ids, "title": ["A title"] * count, "doc_type": empty,
        "date": empty, "metadata": ["{}"] * count, "ordinal": pa.array([0] * count, pa.int32()),
        "text": [text] * count, "start": pa.array([0] * count, pa.int64()), "end": pa.array([5] * count, pa.int64()),
        "tokens": pa.array([3] * count, pa.int32()), "position": ids, "input_digest": digest, "row_digest": digest,
        "vector": pa.array([vector.tobytes() for vector in vectors.astype("<f4")], pa.binary(4 * DIMENSIONS)),
        "partition": [partition] * count, "number": pa.array(numbers, pa.int64()),
    }  # fmt: skip
    return pa.table(columns)


def files_of(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


class TestPlaces:
    @pytest.mark.parametrize("uri", ["papers", "/tmp/papers", "gs://bucket/x", "file://host/x", "s3://", "memory://"])
    def test_a_uri_that_is_no_place_is_refused(self, uri: str) -> None:
        with pytest.raises(SettingsError, match=r"file:///folder"):
            opened(uri)

    def test_one_memory_database_is_shared_within_the_process(self) -> None:
        uri = f"memory://{uuid.uuid4().hex}/lancedb"
        opened(uri).create("g", META, DIMENSIONS)
        opened(uri).load("g", [rows(range(3))])
        assert opened(uri).count("g") == 3
        assert opened(f"{uri}x").find("g") is None

    def test_a_folder_with_a_space_and_an_umlaut_works(self, tmp_path: Path) -> None:
        target = opened((tmp_path / "mein Büro").as_uri())
        target.create("g", META, DIMENSIONS)
        assert (tmp_path / "mein Büro" / "g.lance").is_dir()
        assert opened((tmp_path / "mein Büro").as_uri()).find("g") is not None

    def test_the_whole_line_works_on_s3(self, s3_bucket: Bucket) -> None:
        target = opened(f"{s3_bucket.uri}/root/lancedb", storage=s3_bucket.storage)
        generation = target.create("g", META, DIMENSIONS)
        target.load("g", [rows(range(20))])
        target.finish_load("g")
        again = opened(f"{s3_bucket.uri}/root/lancedb", storage=s3_bucket.storage)
        assert again.generations("papers") == [replace(generation, rows=20)]
        assert [len(page.rows) for page in again.scan("g", "p")] == [20]
        assert len(again.search("g", [Query(text="rows", k=7)])[0]) == 7
        again.drop("g")
        assert target.find("g") is None

    def test_an_absent_bucket_is_named(self, s3_bucket: Bucket) -> None:
        with pytest.raises(TargetError, match="s3://no-such-bucket-here/x"):
            opened("s3://no-such-bucket-here/x", storage=s3_bucket.storage).create("g", META, DIMENSIONS)

    def test_a_place_that_cannot_be_written_is_named_with_the_cause(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(TargetError, match=r"file/lancedb: .*`backhaul"):
            opened(f"{tmp_path.as_uri()}/file/lancedb").create("g", META, DIMENSIONS)

    def test_choosing_the_target_does_not_import_the_library(self) -> None:
        code = "import sys, pipelines.targets.on_lancedb; sys.exit('lancedb' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


class TestSettings:
    def test_too_few_links_are_refused_at_once(self) -> None:
        with pytest.raises(SettingsError, match=r"index\.m is 2"):
            opened("memory://x", settings=IndexSettings(m=2))

    def test_an_unknown_analyzer_names_the_nearest(self) -> None:
        with pytest.raises(SettingsError, match="did you mean 'english'"):
            opened("memory://x", settings=IndexSettings(analyzer="englsh"))

    @pytest.mark.parametrize(("analyzer", "found"), [("english", 1), ("standard", 0), ("german", 0)])
    def test_the_analyzer_decides_which_forms_match(self, analyzer: str, found: int) -> None:
        target = opened(f"memory://{uuid.uuid4().hex}", settings=IndexSettings(analyzer=analyzer))
        target.create("g", META, DIMENSIONS)
        target.load("g", [rows(range(1), text="connecting flights")])
        target.finish_load("g")
        assert len(target.search("g", [Query(text="connection")])[0]) == found

    def test_another_analyzer_is_another_generation(self, folder: Path, target: LanceTarget) -> None:
        other = opened(folder.as_uri(), settings=IndexSettings(analyzer="german"))
        with pytest.raises(TargetError, match=r"index\.analyzer: 'german' here, 'english' there"):
            other.create("g", META, DIMENSIONS)


class TestLoading:
    def test_rows_are_found_before_the_load_is_finished(self, target: LanceTarget) -> None:
        table = rows(range(30))
        target.load("g", [table])
        lexical, vector = target.search("g", [Query(text="rows", k=4), Query(vector=np.ones(DIMENSIONS, "f4"), k=4)])
        assert (len(lexical), len(vector)) == (4, 4)

    def test_rows_loaded_after_the_load_was_finished_are_found(self, target: LanceTarget) -> None:
        target.load("g", [rows(range(30))])
        target.finish_load("g")
        target.load("g", [rows(range(30, 31), text="something quite different")])
        assert [hit.id for hit in target.search("g", [Query(text="difference")])[0]] == [f"{30:032x}"]

    def test_two_racing_writers_of_the_same_rows_make_no_double_rows(self, folder: Path, target: LanceTarget) -> None:
        ready, errors = threading.Barrier(3), []

        def write() -> None:
            writer = opened(folder.as_uri())
            ready.wait(10)
            try:
                writer.load("g", [rows(range(2000))])
            except TargetError as error:
                errors.append(error)

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert not errors
        assert target.count("g") == 2000

    def test_a_loaded_row_is_replaced_whole(self, target: LanceTarget) -> None:
        target.load("g", [rows(range(5), seed=1, text="old")])
        target.load("g", [rows(range(5), seed=2, text="new")])
        (page,) = target.scan("g", "p")
        expected = np.random.default_rng(2).standard_normal((5, DIMENSIONS)).astype(np.float32)
        assert {row["text"] for row in page.rows} == {"new"}
        assert page.vectors.tobytes() == expected.tobytes()

    def test_a_table_over_the_byte_bound_is_merged_in_pieces(self, folder: Path) -> None:
        target = opened(folder.as_uri(), settings=IndexSettings(max_bulk_bytes=1 << 16))
        target.create("g", META, DIMENSIONS)
        assert target.load("g", [rows(range(2000))]).rows == 2000
        (page, _) = target.scan("g", "p")
        assert len(page.rows) == 1024
        assert len(list((folder / "g.lance" / "data").iterdir())) > 4

    def test_a_scan_of_many_pages_is_in_order(self, target: LanceTarget) -> None:
        for start in range(2800, -1, -400):
            target.load("g", [rows(range(start, start + 400))])
        numbers = [row["number"] for page in target.scan("g", "p") for row in page.rows]
        assert numbers == list(range(3200))

    def test_vectors_of_another_length_are_refused(self, target: LanceTarget) -> None:
        table = rows(range(2))
        short = pa.array([bytes(8)] * 2, pa.binary(8))
        with pytest.raises(TargetError, match="2 dimensions and the index takes 16"):
            target.load("g", [table.set_column(table.column_names.index("vector"), "vector", short)])

    def test_finishing_leaves_one_version_and_few_files(self, folder: Path, target: LanceTarget) -> None:
        for start in range(0, 60, 2):
            target.load("g", [rows(range(start, start + 2))])
        before = files_of(folder)
        target.finish_load("g")
        assert len(list((folder / "g.lance" / "data").glob("*.lance"))) == 1
        assert len(list((folder / "g.lance" / "_versions").glob("*.manifest"))) == 1
        assert files_of(folder) < 30 < before

    def test_versions_of_the_live_generation_stay_for_their_readers(self, folder: Path, target: LanceTarget) -> None:
        target.load("g", [rows(range(2))])
        target.move_alias("papers", None, "g")
        target.load("g", [rows(range(2, 4))])
        target.finish_load("g")
        assert len(list((folder / "g.lance" / "_versions").glob("*.manifest"))) > 1

    def test_a_scan_reads_the_rows_that_were_there_when_it_began(self, folder: Path, target: LanceTarget) -> None:
        target.load("g", [rows(range(1500))])
        pages = target.scan("g", "p")
        first = next(pages)
        opened(folder.as_uri()).delete("g", [f"{number:032x}" for number in range(1500)])
        assert len(first.rows) + sum(len(page.rows) for page in pages) == 1500


class TestHalfDoneWork:
    def test_a_folder_left_by_a_killed_creation_is_no_generation(self, folder: Path, target: LanceTarget) -> None:
        (folder / "half.lance" / "data").mkdir(parents=True)
        (folder / "half.lance" / "data" / "x.lance").write_bytes(b"left over")
        assert target.find("half") is None
        assert [found.name for found in target.generations("papers")] == ["g"]
        assert target.create("half", META, DIMENSIONS).rows == 0

    def test_a_drop_that_was_cut_short_is_a_drop(self, folder: Path, target: LanceTarget) -> None:
        target.load("g", [rows(range(3))])
        first = target.find("g")
        mark_dropped(target._open("g"))
        assert target.find("g") is None
        assert target.generations("papers") == []
        again = target.create("g", META, DIMENSIONS)
        assert again.rows == 0
        assert first is not None
        assert again.uuid != first.uuid

    def test_a_killed_writer_leaves_whole_commits(self, folder: Path, target: LanceTarget) -> None:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        writer = context.Process(target=load_until_killed, args=(folder.as_uri(), sender))
        writer.start()
        try:
            for _ in range(3):
                assert receiver.poll(60)
                receiver.recv()
        finally:
            writer.kill()
            writer.join(30)
        assert target.count("g") % 500 == 0
        target.load("g", [rows(range(5000))])
        target.finish_load("g")
        assert target.count("g") == 5000

    def test_a_table_of_someone_else_is_left_alone(self, folder: Path, target: LanceTarget) -> None:
        import lancedb

        lancedb.connect(folder).create_table("theirs", pa.table({"a": [1]}))
        assert target.find("theirs") is None
        assert [found.name for found in target.generations("papers")] == ["g"]
        with pytest.raises(TargetError, match="not made by Backhaul"):
            target.create("theirs", META, DIMENSIONS)
        with pytest.raises(TargetError, match="not made by Backhaul"):
            target.drop("theirs")
        assert lancedb.connect(folder).open_table("theirs").count_rows() == 1

    def test_a_newer_format_is_refused_by_name_and_only_where_it_is_asked_for(
        self, folder: Path, target: LanceTarget
    ) -> None:
        import lancedb

        newer = table_schema(replace(META, corpus="another", format=2), DIMENSIONS, IndexSettings(), "uuid")
        lancedb.connect(folder).create_table("newer", schema=newer)
        with pytest.raises(NewerFormat, match="newer has format 2"):
            target.find("newer")
        with pytest.raises(NewerFormat):
            target.load("newer", [rows(range(1))])
        assert [found.name for found in target.generations("papers")] == ["g"]


class TestGraph:
    def test_a_graph_finds_nearly_all_of_the_nearest(self, target: LanceTarget) -> None:
        target.load("g", [rows(range(12_000), clusters=300)])
        target.finish_load("g")
        assert "vector" in indexed(target)
        queries = np.random.default_rng(5).standard_normal((20, DIMENSIONS)).astype(np.float32)
        near, exact = (target.search("g", [Query(vector=q, exact=e) for q in queries]) for e in (False, True))
        found = [len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in zip(near, exact, strict=True)]
        assert sum(found) / 20 >= 0.95

    def test_a_narrow_filter_still_gives_k_hits(self, target: LanceTarget) -> None:
        target.load("g", [rows(range(12_000), clusters=300), rows(range(12_000, 12_015), partition="narrow", seed=3)])
        target.finish_load("g")
        far_away = Query(vector=np.ones(DIMENSIONS, "f4"), k=15, filters=(equals("partition", "narrow"),))
        assert len(target.search("g", [far_away])[0]) == 15

    def test_a_small_table_has_no_graph(self, target: LanceTarget) -> None:
        target.load("g", [rows(range(500))])
        target.finish_load("g")
        assert "vector" not in indexed(target)

    def test_a_graph_that_misses_neighbours_is_not_kept(self, folder: Path) -> None:
        wide = opened(folder.as_uri(), settings=IndexSettings(m=4, ef_construction=8, ef_search=8))
        wide.create("g", META, DIMENSIONS)
        wide.load("g", [rows(range(12_000))])
        wide.finish_load("g")
        wide.finish_load("g")
        assert "vector" not in indexed(wide)


def indexed(target: LanceTarget) -> set[str]:
    return {column for index in target._open("g").list_indices() for column in index.columns}


def load_until_killed(uri: str, sender: multiprocessing.connection.Connection) -> None:
    writer = opened(uri)
    for start in range(0, 5000, 500):
        writer.load("g", [rows(range(start, start + 500))])
        sender.send(start)


def test_a_filter_by_metadata_is_refused_with_what_there_is_instead(target: LanceTarget) -> None:
    with pytest.raises(QueryRefused, match=r"metadata\.lang.*is no filter of LanceDB.*index\.target opensearch"):
        target.search("g", [Query(text="row", filters=(equals("metadata.lang", "en"),))])


def test_types_of_metadata_are_part_of_what_a_generation_is(target: LanceTarget) -> None:
    typed = replace(META, metadata_fields=("stars",), metadata_types={"stars": "number"})
    made = target.create("typed", typed, DIMENSIONS)
    assert target.find("typed") == made
    assert made.meta == typed
    with pytest.raises(TargetError, match="metadata_types"):
        target.create("typed", replace(typed, metadata_types={}), DIMENSIONS)
