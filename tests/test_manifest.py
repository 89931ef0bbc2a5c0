"""The manifest: duplicates wherever they lie, digests that tell the content alone, limits, races and damage."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from pipelines.checkpoint import part_key
from pipelines.digest import canonical_json
from pipelines.document import Chunk, Document, Position, Span
from pipelines.errors import BackhaulError, GateRefused, NewerFormat
from pipelines.identities import Duplicates, SourceOrder, scratch_database
from pipelines.ledger import Counts
from pipelines.limits import LimitsSettings
from pipelines.manifest import Manifest, commit_manifest, create_manifest, read_manifest, read_rows
from pipelines.partition import Partition, Slice, partition_id
from pipelines.parts import encode_part, part_table
from pipelines.plan.plan import Plan, make_plan
from pipelines.space import ObservedMaker, RequestedMaker, Space
from pipelines.store import ObjectStore, open_store
from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_corpus

SPACE = Space("w" * 64, "t" * 64, "mean", "", "", True, 256, 4)
MAKER = RequestedMaker("hash", "fp32", 1, 64)
Doc = tuple[str, str, int, int]  # id, key, offset, chunks


def _chunks(doc: Doc, tenant: str | None = None) -> list[Chunk]:
    name, key, offset, count = doc
    document = Document(name, key, "", "words", Position(key, offset), tenant=tenant)
    return [Chunk(document, i, f"{name} {i}", Span(0, 1), f"{name} {i}", 2) for i in range(count)]


class Bench:
    """Embedded partitions, made by hand: each a list of documents, cut into parts of ``rows`` rows."""

    def __init__(self, partitions: Sequence[Sequence[Doc | list[Chunk]]], *, rows: int = 4, root: str = "memory",
                 ledger: dict[str, Any] | None = None, rejects: dict[str, int] | None = None) -> None:  # fmt: skip
        uri = f"memory://{uuid.uuid4().hex}" if root == "memory" else root
        self.store: ObjectStore = open_store(uri, create=True)
        cut: list[list[Chunk]] = []
        for docs in partitions:
            cut.append([c for doc in docs for c in (doc if isinstance(doc, list) else _chunks(doc))])
        self.plan = self._plan(cut)
        self.receipts = {}
        for partition, chunks in zip(self.plan.partitions, cut, strict=True):
            parts = [self._part(partition.id, i // rows, chunks[i : i + rows]) for i in range(0, len(chunks), rows)]
            documents = len({(c.document.id, c.document.position) for c in chunks})
            counts = {**Counts(documents=documents, chunks=len(chunks), tokens=100).to_json(), "truncated_by_source": {},
                      **(ledger or {})}  # fmt: skip
            self.receipts[partition.id] = {
                "partition": partition.id, "parts": parts, "rows": len(chunks), "ledger": counts,
                "rejects": {"file": "rejects/embed/some.jsonl" if rejects else None, "counts": rejects or {}},
            }  # fmt: skip

    def commit(self, on_duplicate: str = "fail", **limits: Any) -> Manifest:
        return commit_manifest(self.store, self.plan, self.receipts, on_duplicate=on_duplicate,
                               limits=LimitsSettings(**limits))  # fmt: skip

    def kept(self, manifest: Manifest) -> list[str]:
        return [row for entry in manifest.entries for _, table in read_rows(self.store, entry)
                for row in table["text"].to_pylist()]  # fmt: skip

    def _part(self, partition: str, number: int, chunks: list[Chunk]) -> dict[str, Any]:
        vectors = np.array([[float(b) for b in c.text.encode().ljust(4)[:4]] for c in chunks], dtype=np.float32)
        maker = ObservedMaker(MAKER, (), "cpu", 64)
        table: pa.Table = part_table(chunks, vectors)
        part, data = encode_part(number, table, SPACE, maker)
        self.store.put(part_key(self.plan.run_id, partition, number, part.sha256), data)
        return part.to_json()

    @staticmethod
    def _plan(cut: list[list[Chunk]]) -> Plan:
        partitions = []
        for number, chunks in enumerate(cut):
            places = sorted({(c.document.position.key, c.document.position.offset) for c in chunks})
            slices = tuple(Slice(key, f"etag-{key}", 1000, offset) for key, offset in places or [("empty", 0)])
            partitions.append(Partition(partition_id((("n", str(number)),), slices), number, (), slices))
        return make_plan(deciding={"d": 1}, space=SPACE, maker=MAKER, listing="l", partitions=partitions,
                         estimate={}, notes=())  # fmt: skip


A, B, C = ("a", "x.jsonl", 0, 1), ("b", "x.jsonl", 50, 3), ("c", "y.jsonl", 0, 1)
B_AGAIN: Doc = ("b", "y.jsonl", 60, 3)


@pytest.mark.parametrize(
    "partitions", [[[A, B, B_AGAIN]], [[A, B], [C, B_AGAIN]]], ids=["one partition", "two partitions"]
)
@pytest.mark.parametrize("rows", [2, 100], ids=["several parts", "one part"])
def test_a_duplicate_id_is_found_and_both_places_named(partitions: list[list[Doc]], rows: int) -> None:
    bench = Bench(partitions, rows=rows)
    with pytest.raises(GateRefused, match=r"1 documents .*'b' at x\.jsonl@50 and at y\.jsonl@60.*on_duplicate: first"):
        bench.commit()
    assert read_manifest(bench.store, bench.plan.run_id) is None


@pytest.mark.parametrize("rows", [2, 100], ids=["several parts", "one part"])
def test_the_first_is_kept_and_the_later_document_goes_with_all_its_chunks(rows: int) -> None:
    bench = Bench([[A, B], [B_AGAIN, C]], rows=rows)
    manifest = bench.commit("first")
    assert bench.kept(manifest) == ["a 0", "b 0", "b 1", "b 2", "c 0"]
    assert manifest.rows == 5
    assert manifest.totals["duplicates_dropped"] == 3


def test_with_the_later_duplicate_dropped_both_digests_are_those_of_a_corpus_without_it() -> None:
    with_duplicate = Bench([[A, B, C, B_AGAIN]], rows=100).commit("first")
    without = Bench([[A, B, C]], rows=100).commit()
    assert with_duplicate.content_digest == without.content_digest
    assert with_duplicate.bytes_digest == without.bytes_digest


def test_a_document_whose_first_chunk_was_rejected_is_neither_dropped_nor_kept_with_its_neighbour() -> None:
    headless = _chunks(("c", "y.jsonl", 0, 3))[1:]
    bench = Bench([[B, B_AGAIN, headless]])
    assert bench.kept(bench.commit("first")) == ["b 0", "b 1", "b 2", "c 1", "c 2"]
    again = Bench([[B, A, _chunks(B_AGAIN)[1:]]])
    assert again.kept(again.commit("first")) == ["b 0", "b 1", "b 2", "a 0"]


def test_one_id_under_two_tenants_is_no_duplicate() -> None:
    assert Bench([[_chunks(B, "red"), _chunks(B_AGAIN, "blue")]]).commit().rows == 6


def test_row_numbers_count_dropped_rows() -> None:
    bench = Bench([[B, B_AGAIN, C]], rows=2)
    (entry,) = bench.commit("first").entries
    numbers = [number for _, table in read_rows(bench.store, entry) for number in table["number"].to_pylist()]
    assert numbers == [0, 1, 2, 6]


@pytest.mark.parametrize(
    "cut",
    [
        [[A], [B], [C]],
        [[A, B], [C]],
        [[A, B, C]],
    ],
)
def test_the_content_digest_is_the_same_however_the_objects_are_cut(cut: list[list[Doc]]) -> None:
    assert Bench(cut).commit().content_digest == Bench([[A, B], [C]], rows=1).commit().content_digest


def test_the_content_digest_is_the_same_where_keys_take_turns_between_partitions() -> None:
    one, two, three, four = (("d" + key, key, 0, 2) for key in ("a/1", "b/1", "a/2", "b/2"))
    by_object = Bench([[one], [three], [two], [four]]).commit()
    taking_turns = Bench([[one, two], [three, four]]).commit()
    assert by_object.content_digest == taking_turns.content_digest


def test_the_content_digest_of_real_runs_does_not_tell_how_the_source_was_cut(tmp_path: Path) -> None:
    for year in ("2023", "2024"):  # by doc_type alone, the years take turns
        write_corpus(tmp_path / "source" / year, objects=3, documents=80, seed=int(year))
    for found in (tmp_path / "source" / "2024").rglob("*.jsonl"):
        found.write_bytes(found.read_bytes().replace(b'"id":"d', b'"id":"e'))
    by_kind = {"path": "*/{doc_type}/**", "by": ["doc_type"]}
    cuts = [{}, {"target_tokens": 1000}, by_kind, {**by_kind, "target_tokens": 3000}, {"by": ["modified_day"]}]
    digests, partitions = set(), []
    for cut in cuts:
        conf = write_conf(tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{tmp_path}/source",
                          engine={"workers": 0}, partition=cut)  # fmt: skip
        outcome = backhaul_here("embed", conf, "--json")
        assert outcome.code == 0, outcome.err
        digests.add(outcome.json["content_digest"])
        partitions.append(outcome.json["partitions"])
    assert partitions[0] == 1
    assert partitions[1] > 6, "objects were cut into ranges"
    assert partitions[2] == 3
    assert len(digests) == 1


def test_keys_are_ordered_by_their_utf8_bytes() -> None:
    high, low = ("h", "\U0001f600", 0, 1), ("l", "\uffee", 0, 1)  # UTF-16 would order them the other way round
    assert Bench([[low, high]]).commit().content_digest == Bench([[low], [high]]).commit().content_digest
    assert Bench([[high], [low]]).commit().content_digest == Bench([[low], [high]]).commit().content_digest


def test_another_row_another_order_or_another_space_is_another_content() -> None:
    plain = Bench([[A, B]]).commit().content_digest
    assert Bench([[A, ("b", "x.jsonl", 50, 2)]]).commit().content_digest != plain
    assert Bench([[B, A]]).commit().content_digest != plain


def test_too_many_rejects_are_refused_with_causes_and_file() -> None:
    bench = Bench([[A, B]], rejects={"broken_json": 2, "encoding": 1})
    with pytest.raises(GateRefused, match=r"3 of 5 records .*60\.0%.*broken_json 2, encoding 1.*rejects/embed/some"):
        bench.commit()
    assert bench.commit(max_reject_share=0.6).totals["records"] == 5


def test_chunks_lost_of_documents_that_count_are_not_records() -> None:
    bench = Bench([[A, B]], rejects={"bad_vector": 2, "poison_chunk": 1, "poison_document": 1})
    assert bench.commit(max_reject_share=1.0).totals["records"] == 3


def test_too_many_lost_chunks_are_refused_even_of_few_documents() -> None:
    bench = Bench([[("a", "x.jsonl", 0, 50)]], rejects={"poison_chunk": 10})
    with pytest.raises(GateRefused, match=r"0 of 1 records and 10 of 50 chunks were rejected \(20\.0%\)"):
        bench.commit(max_reject_share=0.1)


def test_too_many_bad_vectors_are_refused_and_the_message_says_what_may_be_done() -> None:
    bench = Bench([[A, B]], rejects={"bad_vector": 3}, ledger={"nan_vectors": 2, "zero_vectors": 1})
    with pytest.raises(
        GateRefused, match=r"2 vectors with NaN.*1 zero.*max_bad_vectors is 2.*backhaul failures CONF.*receipts"
    ):
        bench.commit(max_bad_vectors=2, max_reject_share=1.0)
    assert bench.commit(max_bad_vectors=3, max_reject_share=1.0).rows == 4


def test_too_much_truncation_is_refused_naming_the_worst_sources() -> None:
    lost = {"truncated_tokens": 30, "truncated_by_source": {"long.jsonl": 30}}
    with pytest.raises(GateRefused, match=r"30 of 100 tokens.*long\.jsonl \(30\).*split\.method: tokens"):
        Bench([[A]], ledger=lost).commit(max_truncated_share=0.29)
    assert Bench([[A]], ledger=lost).commit(max_truncated_share=0.3).rows == 1
    assert Bench([[A]], ledger=lost).commit().rows == 1


def test_a_run_of_no_rows_has_a_manifest_too() -> None:
    bench = Bench([[]], rejects={"broken_json": 1})
    manifest = bench.commit(max_reject_share=1.0)
    assert (manifest.rows, bench.kept(manifest)) == (0, [])


@pytest.mark.parametrize("root", ["memory", "file"])
def test_of_drivers_that_commit_at_once_each_gets_the_one_manifest(root: str, tmp_path: Path) -> None:
    place = "memory" if root == "memory" else f"file://{tmp_path}"
    bench = Bench([[A, B], [C]], root=place)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: bench.commit(), range(4)))
    assert found == [found[0]] * 4
    read = read_manifest(bench.store, bench.plan.run_id)
    assert read is not None
    assert read.root == found[0].root
    assert read.entries == found[0].entries


def test_a_driver_that_comes_second_gets_the_manifest_of_the_first() -> None:
    bench = Bench([[A, B]])
    first = bench.commit()
    bench.receipts = {name: {**receipt, "ledger": {**receipt["ledger"], "tokens": 7}}
                      for name, receipt in bench.receipts.items()}  # fmt: skip
    assert bench.commit().root == first.root


def test_a_manifest_of_other_content_is_not_taken_for_ours() -> None:
    bench = Bench([[A, B]])
    other = Bench([[A]])
    value = replace(other.commit(), run_id=bench.plan.run_id)
    create_manifest(bench.store, value)
    with pytest.raises(GateRefused, match=r"manifest\.json is of other content"):
        bench.commit()


@pytest.mark.parametrize("damage", [b'{"format": 1, "root": "0"', b"", b"\x00" * 100])
def test_a_manifest_that_is_no_json_any_more_is_refused_and_written_again_once_deleted(damage: bytes) -> None:
    bench = Bench([[A, B]])
    manifest, key = bench.commit(), f"runs/{bench.plan.run_id}/manifest.json"
    bench.store.put(key, damage)
    with pytest.raises(GateRefused, match=rf"{key} is damaged.*Delete it: `backhaul embed CONF`"):
        read_manifest(bench.store, bench.plan.run_id)
    bench.store.delete([key])
    assert bench.commit() == manifest


@pytest.mark.parametrize("field", ["rows", "sha256"])
def test_one_altered_field_of_a_manifest_is_seen(field: str) -> None:
    bench = Bench([[A, B]])
    bench.commit()
    key = f"runs/{bench.plan.run_id}/manifest.json"
    value = orjson.loads(bench.store.get(key))
    value["entries"][0]["parts"][0][field] = 7
    bench.store.put(key, canonical_json(value))
    with pytest.raises(GateRefused, match="root digest does not match"):
        read_manifest(bench.store, bench.plan.run_id)


def test_a_manifest_of_a_newer_format_is_refused_by_name() -> None:
    bench = Bench([[A]])
    bench.store.put(f"runs/{bench.plan.run_id}/manifest.json", b'{"format": 2}')
    with pytest.raises(NewerFormat, match=r"manifest\.json has format 2"):
        read_manifest(bench.store, bench.plan.run_id)


def test_a_part_that_was_damaged_before_the_commit_is_refused() -> None:
    bench = Bench([[A, B]])
    (partition,) = bench.plan.partitions
    part = bench.receipts[partition.id]["parts"][0]
    key = part_key(bench.plan.run_id, partition.id, 0, part["sha256"])
    bench.store.put(key, bench.store.get(key)[: part["bytes"] // 2])
    with pytest.raises(GateRefused, match=rf"{key} is damaged"):
        bench.commit()


def test_a_folder_for_temporary_files_that_is_full_is_named_with_its_mend() -> None:
    with pytest.raises(BackhaulError, match=r"temporary files cannot be used \(.*full\).*TMPDIR"):
        _fill_scratch()


def _fill_scratch() -> None:
    with scratch_database() as database:
        database.execute("PRAGMA max_page_count=2")  # what a full disk looks like to it
        Duplicates(database)
        SourceOrder(database)
