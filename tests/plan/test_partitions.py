"""Partitions in columns are the partitions that were put in, and bytes that are none are refused."""

from __future__ import annotations

import io

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.digest import canonical_json
from pipelines.errors import GateRefused
from pipelines.partition import Partition, Slice, partition_id
from pipelines.plan.partitions import Partitions
from pipelines.plan.plan import make_plan, read_plan, write_plan
from pipelines.space import RequestedMaker, Space
from pipelines.store import ObjectStore, open_store

_TEXT = st.text(st.characters(codec="utf-8"), max_size=9)
_SIZE = st.integers(0, 2**62)
_SLICES = st.builds(Slice, _TEXT, _TEXT, _SIZE, _SIZE, st.none() | _SIZE, st.none() | _TEXT)
_PARTITIONS = st.lists(
    st.tuples(st.lists(st.tuples(_TEXT, _TEXT), max_size=3), st.lists(_SLICES, min_size=1, max_size=4)), max_size=9
).map(lambda rows: [_partition(number, tuple(key), tuple(slices)) for number, (key, slices) in enumerate(rows)])


def _partition(number: int, key: tuple[tuple[str, str], ...], slices: tuple[Slice, ...]) -> Partition:
    return Partition(partition_id(key, slices), number, key, slices)


def _some(count: int) -> list[Partition]:
    """Of one to three slices, of which every second is of an object that another one has too."""
    return [
        _partition(n, (("kind", "ab"[n % 2]),), tuple(Slice(f"k{n // 2}-{i}", "e", 9, n) for i in range(n % 3 + 1)))
        for n in range(count)
    ]


@settings(deadline=None)
@given(_PARTITIONS)
def test_what_comes_out_is_what_went_in(partitions: list[Partition]) -> None:
    columns = Partitions.of(partitions)
    for found in (columns, Partitions.from_parquet(columns.to_parquet())):
        assert list(found) == partitions
        assert list(found.ids) == [one.id for one in partitions]
        assert found == partitions
        assert found == tuple(partitions)
        assert found.objects == len({piece.key for one in partitions for piece in one.slices})


@settings(deadline=None)
@given(_PARTITIONS, st.data())
def test_pending_is_what_is_not_committed_and_asked_for(partitions: list[Partition], data: st.DataObject) -> None:
    ids = [one.id for one in partitions]
    committed = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    only = data.draw(st.none() | st.sets(st.sampled_from(ids))) if ids else None
    pending = Partitions.of(partitions).pending(committed | {"of another plan"}, only)
    expected = [p for p in partitions if p.id not in committed and (only is None or p.id in only)]
    assert list(pending) == expected
    assert len(pending) == len(expected)
    assert bool(pending) == bool(expected)


def test_they_are_a_sequence() -> None:
    made = _some(10_000)  # more than are made at once
    partitions = Partitions.from_parquet(Partitions.of(made).to_parquet())
    assert partitions == made
    assert [partitions[at] for at in (0, 1, 4097, -1)] == [made[at] for at in (0, 1, 4097, -1)]
    assert partitions[3:9:2] == made[3:9:2]
    assert list(reversed(partitions[:5])) == made[4::-1]
    assert made[77] in partitions
    assert partitions != made[:-1]
    for beyond in (10_000, -10_001):
        with pytest.raises(IndexError):
            partitions[beyond]


def test_what_is_pending_can_be_asked_as_the_whole_can() -> None:
    made = _some(50)
    pending = Partitions.of(made).pending({one.id for one in made[1:40]})
    expected = [made[0], *made[40:]]
    assert pending[1:] == expected[1:]
    assert pending.pending({made[0].id}) == made[40:]
    assert pending.objects == len({piece.key for one in expected for piece in one.slices})
    assert Partitions.from_parquet(pending.to_parquet()) == expected
    assert Partitions.from_parquet(Partitions.of(made)[::-1].to_parquet()) == made[::-1]


def test_a_partition_of_no_slice_has_no_row_and_is_refused() -> None:
    with pytest.raises(ValueError, match="partition empty has no slice"):
        Partitions.of([Partition("empty", 0, (), ())])


def _written(store: ObjectStore) -> str:
    plan = make_plan(deciding={}, space=Space("w", "t", "none", "", "", True, 256, 4), partitions=_some(5),
                     maker=RequestedMaker("hash", "fp32", 1, 64), listing="l", estimate={}, notes=())  # fmt: skip
    write_plan(store, "papers", plan)
    assert read_plan(store, plan.run_id) == plan
    return plan.run_id


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _invalid_text(table: pa.Table) -> pa.Table:
    spoiled = pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())
    return table.set_column(3, "key", spoiled)


@pytest.mark.parametrize("damage", [
    lambda data: data[:-9],
    lambda data: _parquet(pq.read_table(io.BytesIO(data)).drop(["version"])),
    lambda data: _parquet(_invalid_text(pq.read_table(io.BytesIO(data)))),
    lambda data: _parquet(pq.read_table(io.BytesIO(data)).set_column(2, "partition_key", pa.array(["[["] * 9))),
    lambda data: _parquet(pq.read_table(io.BytesIO(data)).slice(0, 4)),
], ids=["cut short", "a column less", "no text", "no JSON", "rows lost"])  # fmt: skip
def test_damage_is_seen_when_the_plan_is_read(damage: object, request: pytest.FixtureRequest) -> None:
    store = open_store(f"memory://{request.node.name}")
    key = f"runs/{_written(store)}/objects.parquet"
    store.put(key, damage(store.get(key)))  # type: ignore[operator]
    with pytest.raises(GateRefused, match=r"objects\.parquet (is damaged|holds \d of 5).*--replan"):
        read_plan(store, key.split("/")[1])


def test_a_plan_that_says_other_than_its_objects_is_refused(request: pytest.FixtureRequest) -> None:
    store = open_store(f"memory://{request.node.name}")
    key = f"runs/{_written(store)}/plan.json"
    store.put(key, canonical_json(orjson.loads(store.get(key)) | {"partitions": 6}))
    with pytest.raises(GateRefused, match=r"holds 5 of 6 partitions"):
        read_plan(store, key.split("/")[1])
