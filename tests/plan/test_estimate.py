from __future__ import annotations

import gzip
import io
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.errors import Denied, SourceChanged
from pipelines.plan.estimate import (
    Estimate,
    estimate,
    expected_parts,
    expected_rows,
    expected_tokens,
    hours,
    price,
)
from pipelines.plan.footers import row_group_bytes
from pipelines.plan.listing import list_source
from pipelines.plan.sample import SAMPLE_BYTES, choose
from pipelines.read.reader import SourceSettings
from pipelines.split.splitter import SplitSettings
from pipelines.store import Object, ObjectStore, open_store
from tests.plan.listings import listing_of

_NAMES = count()
WORDS = "eight words that make up one plain text "


class WordTokenizer:
    """A token per word and two special ones."""

    digest = "0" * 64
    special_tokens = 2

    def spans(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 for text in texts]


def _jsonl(documents: int, *, repeat: int = 10) -> bytes:
    return b"".join(
        json.dumps({"id": n, "title": "T", "text": WORDS * repeat}).encode() + b"\n" for n in range(documents)
    )


def _store(bodies: dict[str, bytes]) -> ObjectStore:
    store = open_store(f"memory://estimate-{next(_NAMES)}")
    for key, body in bodies.items():
        store.put(key, body)
    return store


def _estimate(bodies: dict[str, bytes], **source: object) -> Estimate:
    settings = SourceSettings.model_validate({"uri": "memory://x", **source})
    store = _store(bodies)
    return estimate(store, list_source(store, settings), settings, WordTokenizer())


def test_documents_and_tokens_of_equal_records_are_estimated_closely() -> None:
    found = _estimate({f"{n}.jsonl": _jsonl(1000) for n in range(5)})
    assert found.documents == pytest.approx(5000, rel=0.01)
    assert found.tokens == pytest.approx(5000 * 83, rel=0.01)  # title, 10 times 8 words, 2 special
    assert set(found.document_tokens) == {83}
    assert found.notes == ()


@pytest.mark.parametrize(
    ("key", "pack"),
    [
        ("x.jsonl.gz", gzip.compress),
        ("x.jsonl.gz", lambda data: gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])),
        ("x.jsonl.zst", zstandard.ZstdCompressor().compress),
    ],
    ids=["gzip", "two gzip members", "zstd"],
)
def test_compressed_objects_are_measured_by_what_they_unpack_to(key: str, pack: object) -> None:
    draw = random.Random(1)
    body = b"".join(json.dumps({"text": f"{draw.random()} " * 9}).encode() + b"\n" for _ in range(20_000))
    found = _estimate({key: pack(body)})  # type: ignore[operator]
    assert found.documents == pytest.approx(20_000, rel=0.15)
    assert found.tokens == pytest.approx(20_000 * 11, rel=0.15)


def test_csv_is_parsed_with_its_header_and_quotes() -> None:
    body = b"id,title,text\n" + b'1,T,"one, two\nthree"\n' * 5000
    found = _estimate({"x.csv": body}, format="csv")
    assert found.documents == pytest.approx(5000, rel=0.02)
    assert set(found.document_tokens) == {6}


def test_each_text_object_is_one_document() -> None:
    found = _estimate({f"{n}.txt": (WORDS * 100).encode() for n in range(40)}, format="text", fields={"title": None})
    assert found.documents == 40
    assert found.tokens == pytest.approx(40 * 802, rel=0.01)


def test_parquet_is_sampled_by_its_first_rows() -> None:
    table = pa.table({"id": list(range(5000)), "text": [f"{n} {WORDS}" for n in range(5000)]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=1000)
    found = _estimate({"x.parquet": buffer.getvalue()}, format="parquet")
    assert found.documents == pytest.approx(5000, rel=0.01)
    assert found.tokens == pytest.approx(5000 * 11, rel=0.01)


class ReadStore:
    """A Store that writes down the size of each read, or denies it."""

    def __init__(self, store: ObjectStore, *, denied: bool = False) -> None:
        self.uri = store.uri
        self.list = store.list
        self._store = store
        self._denied = denied
        self.reads: list[int] = []

    def get(self, key: str, *, if_match: str | None = None, start: int = 0, end: int | None = None) -> bytes:
        if self._denied:
            raise Denied(f"access to {key} was denied")
        assert if_match
        assert end is not None
        self.reads.append(end - start)
        return self._store.get(key, if_match=if_match, start=start, end=end)


def test_a_sample_reads_at_most_64_kb_of_each_of_16_objects_under_its_etag() -> None:
    store = ReadStore(_store({f"{n}.jsonl": _jsonl(300) for n in range(40)}))
    source = SourceSettings(uri="memory://x")
    estimate(store, list_source(store, source), source, None)  # type: ignore[arg-type]
    assert len(store.reads) == 16
    assert max(store.reads) <= SAMPLE_BYTES


def test_a_broken_sample_is_a_note_and_not_a_failure() -> None:
    found = _estimate({"a.jsonl.gz": b"no gzip at all", "b.jsonl.gz": gzip.compress(_jsonl(10))})
    assert "1 of 2 sampled objects told nothing, such as a.jsonl.gz: not gzip" in found.notes[0]
    assert found.documents > 0


def test_a_damaged_parquet_object_is_a_note_and_has_no_row_groups() -> None:
    found = _estimate({"x.parquet": b"PAR1 cut off"}, format="parquet")
    assert "x.parquet" in found.notes[0]
    assert "guesses" in found.notes[-1]
    store = _store({"x.parquet": b"PAR1 cut off"})
    assert row_group_bytes(store, store.head("x.parquet")) == []


def test_a_document_that_no_rule_foresees_stops_no_planning() -> None:
    odd_title = b'{"id": "odd", "title": 5, "text": "five words of some text"}\n'
    assert _estimate({"a.jsonl": odd_title * 10}).documents == 10
    values = pa.py_buffer(b"ok\xff\xfe")
    broken = pa.StringArray.from_buffers(2, pa.array([0, 2, 4], pa.int32()).buffers()[1], values)
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2], "text": broken}), out)
    assert (
        "looking into it raised UnicodeDecodeError"
        in _estimate({"x.parquet": out.getvalue()}, format="parquet").notes[0]
    )


def test_a_text_that_the_tokenizer_cannot_take_is_guessed_and_the_others_are_counted() -> None:
    class Fussy(WordTokenizer):
        def count(self, texts: Sequence[str]) -> list[int]:
            if any("poison" in text for text in texts):
                raise ValueError("unheard-of word")
            return super().count(texts)

    store = _store({"a.jsonl": _jsonl(2) + b'{"id": "x", "text": "poison poison"}\n'})
    source = SourceSettings(uri="memory://x")
    found = estimate(store, list_source(store, source), source, Fussy())
    assert sorted(found.document_tokens) == [math.ceil(len("poison poison") / 4) + 2, 83, 83]


def test_a_text_field_that_no_record_has_is_named_with_those_there_are() -> None:
    found = _estimate({"x.jsonl": b'{"_id": 1, "body": "b"}\n'})
    assert "'text' (source.fields.text); it has: _id, body" in found.notes[0]


def test_an_object_that_changed_since_listing_is_a_note() -> None:
    store = _store({"a.jsonl": _jsonl(10), "b.jsonl": _jsonl(10)})
    source = SourceSettings(uri="memory://x")
    listing = list_source(store, source)
    store.put("a.jsonl", _jsonl(11))
    assert "changed" in estimate(store, listing, source, None).notes[0]


def test_a_source_that_may_be_listed_but_not_read_is_refused() -> None:
    store = ReadStore(_store({"a.jsonl": _jsonl(10)}), denied=True)
    source = SourceSettings(uri="memory://x")
    with pytest.raises(Denied, match=r"a\.jsonl"):
        estimate(store, list_source(store, source), source, None)  # type: ignore[arg-type]


def test_the_same_objects_are_chosen_when_the_listing_changes_a_little() -> None:
    sizes = {f"part-{n}": 100 + n for n in range(1000)}
    before = {one.key for one in choose(listing_of(sizes), 16)}
    after = {one.key for one in choose(listing_of({**sizes, "part-new": 500}), 16)}
    assert len(before) == 16
    assert len(before & after) >= 15


def test_row_groups_are_told_from_the_footer_under_the_etag() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": [str(n) * 50 for n in range(3000)]}), buffer, row_group_size=1000)
    store = _store({"x.parquet": buffer.getvalue()})
    one = store.head("x.parquet")
    sizes = row_group_bytes(store, one)
    assert len(sizes) == 3
    assert 0 < sum(sizes) < one.size
    with pytest.raises(SourceChanged):
        row_group_bytes(store, replace(one, etag='"old"'))


def test_rows_tokens_and_parts_follow_from_lengths() -> None:
    found = Estimate(1, 1, 100, 30_000, {"": 1.0}, (200, 400), 1, 1, ())
    split = SplitSettings(max_tokens=256, overlap_tokens=32)
    assert expected_rows(found, SplitSettings(method="none")) == 100
    assert expected_rows(found, split) == 150
    assert expected_tokens(found, split, 256) == 30_000 + 50 * 32
    assert expected_parts([10_000, 20_000], 150, 40) == 2 + 3


def test_price_is_hours_times_usd_per_hour() -> None:
    assert price(hours(7_200_000, 1000.0), 1.5) == pytest.approx(3.0)


def test_objects_are_given_back_as_listed() -> None:
    assert choose(listing_of({"a": 5}), 16) == [Object("a", 5, '"a"', 1_715_904_000_000)]
