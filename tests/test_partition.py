"""A partition as a value: its id tells content, and it crosses a wire unchanged."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from pipelines.partition import Partition, Slice, partition_id

KEY = (("doc_type", "faq"),)
SLICES = (Slice("a", "e1", 10), Slice("b", "e2", 20, 5, 15, "v1"))


def test_a_partition_survives_json() -> None:
    partition = Partition(partition_id(KEY, SLICES), 3, KEY, SLICES)
    assert Partition.from_json(orjson.loads(orjson.dumps(partition.to_json()))) == partition


@pytest.mark.parametrize("change", [{"key": "c"}, {"etag": "e3"}, {"start": 1}, {"end": 9}, {"version": "v2"}])
def test_the_id_changes_with_what_is_read(change: dict[str, object]) -> None:
    assert partition_id(KEY, (replace(SLICES[0], **change), SLICES[1])) != partition_id(KEY, SLICES)


def test_the_id_changes_with_the_key_and_the_order_of_slices() -> None:
    assert partition_id((), SLICES) != partition_id(KEY, SLICES)
    assert partition_id(KEY, SLICES[::-1]) != partition_id(KEY, SLICES)
