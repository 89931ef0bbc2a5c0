from __future__ import annotations

import json
import os
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.partition import Partition, partition_id
from pipelines.plan.partitioning import Partitioning, TokensPerByte, plan_partitions, stable_ratio
from pipelines.plan.settings import PartitionSettings
from pipelines.read.reader import SourceSettings
from pipelines.store import Object
from tests.plan.listings import listing_of

GOLDEN = Path(__file__).parent / "golden" / "mixed_listing.json"
TARGET = PartitionSettings(target_tokens=1000)
SIZES = st.dictionaries(st.from_regex(r"[a-c]/[a-z]{1,6}(\.gz)?", fullmatch=True), st.integers(1, 9000), min_size=1)


def _plan(sizes: dict[str, int], partition: PartitionSettings = TARGET, *, ratio: TokensPerByte = 1.0,
          row_groups: list[int] | None = None, **source: object) -> Partitioning:  # fmt: skip
    asked = None if row_groups is None else lambda one: row_groups
    settings = SourceSettings.model_validate({"uri": "memory://listed", **source})
    return plan_partitions(listing_of(sizes), partition, settings, ratio, asked)


def _ranges(planned: Partitioning) -> list[tuple[str, int, int | None]]:
    return [(piece.key, piece.start, piece.end) for one in planned.partitions for piece in one.slices]


@given(SIZES)
@settings(max_examples=100, deadline=None)
def test_every_byte_of_every_object_is_covered_exactly_once(sizes: dict[str, int]) -> None:
    covered: dict[str, list[tuple[int, int]]] = {}
    for key, start, end in _ranges(_plan(sizes)):
        covered.setdefault(key, []).append((start, sizes[key] if end is None else end))
    assert covered.keys() == sizes.keys()
    for key, ranges in covered.items():
        ranges.sort()
        assert ranges[0][0] == 0
        assert ranges[-1][1] == sizes[key]
        assert all(before[1] == after[0] for before, after in pairwise(ranges))
        assert all(start < end for start, end in ranges)


@given(SIZES, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_plan_does_not_depend_on_the_order_of_listing(sizes: dict[str, int], draw: random.Random) -> None:
    shuffled = list(sizes.items())
    draw.shuffle(shuffled)
    assert _plan(dict(shuffled)) == _plan(sizes)


@given(SIZES)
@settings(max_examples=50, deadline=None)
def test_partitions_are_numbered_by_first_key_and_start(sizes: dict[str, int]) -> None:
    partitions = _plan(sizes, PartitionSettings(path="*/{letter}*", by=("letter",), target_tokens=1000)).partitions
    assert [one.number for one in partitions] == list(range(len(partitions)))
    firsts = [(one.slices[0].key, one.slices[0].start) for one in partitions]
    assert firsts == sorted(firsts)


def test_a_partition_is_named_by_its_key_and_slices() -> None:
    for one in _plan({f"part-{n}": 300 for n in range(50)}).partitions:
        assert one.id == partition_id(one.key, one.slices)


def test_a_changed_etag_changes_the_partition_of_its_object_alone() -> None:
    sizes = {f"part-{n:03}": 300 for n in range(200)}
    source = SourceSettings(uri="memory://listed")
    before = {one.id for one in plan_partitions(listing_of(sizes), TARGET, source, 1.0).partitions}
    changed = listing_of(sizes, etags={"part-077": '"new"'})
    assert len({one.id for one in plan_partitions(changed, TARGET, source, 1.0).partitions} - before) == 1


def test_keys_are_never_mixed() -> None:
    partition = PartitionSettings(path="{doc_type}/*", by=("doc_type",))
    found = _plan({"a/1": 1, "b/1": 1, "a/2": 1}, partition).partitions
    assert [(one.key, [piece.key for piece in one.slices]) for one in found] == [
        ((("doc_type", "a"),), ["a/1", "a/2"]),
        ((("doc_type", "b"),), ["b/1"]),
    ]


def test_many_small_objects_are_bounded_by_their_number() -> None:
    found = _plan({f"part-{n}": 1 for n in range(1000)}, PartitionSettings(target_tokens=1_000_000, max_objects=50))
    assert max(len(one.slices) for one in found.partitions) <= 50


def test_a_big_jsonl_object_is_cut_at_multiples_of_a_power_of_two() -> None:
    assert _ranges(_plan({"big": 5000})) == [
        ("big", 0, 1024), ("big", 1024, 2048), ("big", 2048, 3072), ("big", 3072, 4096), ("big", 4096, None)
    ]  # fmt: skip


def test_a_grown_object_keeps_its_first_ranges() -> None:
    assert _ranges(_plan({"big": 9000}))[:4] == _ranges(_plan({"big": 5000}))[:4]


def test_a_big_gzip_object_stays_whole_and_the_plan_says_so() -> None:
    found = _plan({"big.jsonl.gz": 50_000, "small.jsonl.gz": 10})
    assert [(piece.start, piece.end) for one in found.partitions for piece in one.slices] == [(0, None), (0, None)]
    assert len(found.notes) == 1
    assert "big.jsonl.gz" in found.notes[0]
    assert "store them smaller or uncompressed" in found.notes[0]


def test_csv_is_cut_only_when_no_field_holds_a_newline() -> None:
    whole = _plan({"big.csv": 5000}, format="csv")
    assert _ranges(whole) == [("big.csv", 0, None)]
    assert "source.quoted_newlines: false" in whole.notes[0]
    assert len(_ranges(_plan({"big.csv": 5000}, format="csv", quoted_newlines=False))) == 5


def test_a_text_object_is_one_document_and_never_cut() -> None:
    found = _plan({"big.txt": 50_000}, format="text")
    assert _ranges(found) == [("big.txt", 0, None)]
    assert "one document" in found.notes[0]


def test_big_parquet_is_cut_between_row_groups() -> None:
    found = _plan({"big": 5000}, format="parquet", row_groups=[700, 300, 900, 2000, 1100])
    assert _ranges(found) == [("big", 0, 2), ("big", 2, 3), ("big", 3, 4), ("big", 4, None)]
    assert found.tokens == [1000, 900, 2000, 1100]


def test_parquet_of_one_row_group_stays_whole_and_the_plan_says_so() -> None:
    found = _plan({"big": 5000}, format="parquet", row_groups=[5000])
    assert _ranges(found) == [("big", 0, None)]
    assert "one row group" in found.notes[0]


def test_row_groups_of_small_parquet_objects_are_not_asked_for() -> None:
    def refuse(one: Object) -> list[int]:
        raise AssertionError(one.key)

    source = SourceSettings(uri="memory://listed", format="parquet")
    assert len(plan_partitions(listing_of({"small": 100}), TARGET, source, 1.0, refuse).partitions) == 1


def test_compressed_objects_count_by_their_own_ratio() -> None:
    found = _plan({"a.jsonl": 400, "b.jsonl.gz": 400}, ratio={"": 1.0, "gzip": 4.0})
    assert sum(found.tokens) == 400 + 1600


def test_an_estimate_that_moves_a_little_moves_no_cut() -> None:
    sizes = {f"part-{n}": 300 for n in range(100)}
    assert _plan(sizes, ratio=0.25) == _plan(sizes, ratio=0.27)


def test_a_sample_without_a_token_still_plans() -> None:
    assert len(_plan({"a": 300}, ratio=0.0).partitions) == 1


def test_the_last_plans_ratio_is_kept_until_it_is_plainly_wrong() -> None:
    assert stable_ratio({"": 0.3}, {"": 0.25}) == {"": 0.25}
    assert stable_ratio({"": 0.6}, {"": 0.25}) == {"": 0.6}
    assert stable_ratio({"": 0.3, "gzip": 1.0}, {"": 0.25}) == {"": 0.3, "gzip": 1.0}
    assert stable_ratio(0.3, None) == 0.3


def _readable(planned: Partitioning) -> dict[str, object]:
    def one(partition: Partition, tokens: int) -> dict[str, object]:
        slices = [f"{piece.key} [{piece.start}, {piece.end})" for piece in partition.slices]
        return {"id": partition.id, "number": partition.number, "key": dict(partition.key), "tokens": tokens,
                "slices": slices}  # fmt: skip

    return {"notes": planned.notes, "partitions": list(map(one, planned.partitions, planned.tokens))}


def test_the_plan_of_a_mixed_listing_is_the_golden_one() -> None:
    """Rewritten by ``GOLDEN=1 pytest tests/plan``: ids name stored parts, so a difference re-embeds every corpus."""
    draw = random.Random(5)
    sizes = {f"{kind}/2024-{month:02}/part-{n:03}.jsonl": draw.randint(50, 700)
             for kind in ("faq", "guide") for month in (1, 2) for n in range(9)}  # fmt: skip
    sizes |= {
        "faq/2024-01/whole.jsonl": 4500,
        "guide/2024-02/packed.jsonl.gz": 3000,
        "guide/2024-02/packed.jsonl.zst": 90,
    }
    partition = PartitionSettings(path="{doc_type}/{date:%Y-%m}/*", by=("doc_type", "month"), target_tokens=1000)
    found = _readable(_plan(sizes, partition, ratio={"": 1.0, "gzip": 4.0, "zstd": 4.0}))
    if os.environ.get("GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    if not GOLDEN.exists():
        pytest.fail(f"{GOLDEN} is missing; make it by GOLDEN=1 pytest tests/plan")
    assert found == json.loads(GOLDEN.read_text())
