"""Parts: what was written is what is read, bit for bit, and only the very rows that were planned are found again."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from pipelines.checkpoint import Checkpoint, part_key
from pipelines.document import Chunk, Document, Position, Scalar, Span
from pipelines.errors import GateRefused, NewerFormat, NotFound
from pipelines.parts import (
    Part,
    bits_digest,
    encode_part,
    part_table,
    read_columns,
    read_part,
    recognise_part,
    rows_of,
    vectors_of,
)
from pipelines.receipts import embed_receipts
from pipelines.space import ObservedMaker, RequestedMaker, Space
from pipelines.store import ObjectStore, open_store

DIMENSIONS = 3
SPACE = Space("w" * 64, "t" * 64, "mean", "", "", True, 256, DIMENSIONS)
MAKER = ObservedMaker(RequestedMaker("hash", "fp32", 1, 64), (("numpy", "2"),), "cpu", 64)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS: st.SearchStrategy[Scalar] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)


def _chunk(number: int, text: str = "some words", metadata: dict[str, Scalar] | None = None) -> Chunk:
    document = Document(f"d{number}", "a.jsonl", "t", text, Position("a.jsonl", number), metadata=metadata or {})
    return Chunk(document, 0, text, Span(0, len(text)), f"t {text}", 3)


CHUNKS = [_chunk(number) for number in range(4)]
VECTORS = np.arange(4 * DIMENSIONS, dtype=np.float32).reshape(4, DIMENSIONS)


@pytest.fixture
def store() -> ObjectStore:
    return open_store(f"memory://{uuid.uuid4().hex}")


def _write(store: ObjectStore, chunks: list[Chunk] = CHUNKS, *, space: Space = SPACE, number: int = 0,
           bits: float = 0.0) -> Part:  # fmt: skip
    table = part_table(chunks, VECTORS[: len(chunks)] + np.float32(bits))
    part, data = encode_part(number, table, space, MAKER)
    assert _checkpoint(store).write(number, data) == part.sha256
    return part


def _checkpoint(store: ObjectStore) -> Checkpoint:
    return Checkpoint(store, "r", "p", embed_receipts(store, "r"))


def _find(store: ObjectStore, chunks: list[Chunk] = CHUNKS, *, space: Space = SPACE, number: int = 0) -> Part | None:
    return _checkpoint(store).find(number, lambda data: recognise_part(data, number, chunks, space))


@given(
    texts=st.lists(TEXT, min_size=1, max_size=4),
    metadata=st.dictionaries(TEXT, SCALARS, max_size=4),
    bits=st_numpy.arrays(np.uint32, (4, DIMENSIONS)),
)
@settings(max_examples=60, deadline=None)
def test_any_text_metadata_and_vector_bits_come_back_as_they_were(
    texts: list[str], metadata: dict[str, Scalar], bits: np.ndarray
) -> None:
    store = open_store("memory://round-trip")
    chunks = [_chunk(number, text, metadata) for number, text in enumerate(texts)]
    vectors = bits[: len(texts)].view(np.float32)  # every float32 there is: -0.0, subnormals, NaNs of any payload
    part, data = encode_part(0, part_table(chunks, vectors), SPACE, MAKER)
    _checkpoint(store).write(0, data)
    table = read_part(store, "r", "p", part)
    rows = [{name: value for name, value in row.items() if name != "row_digest"} for row in rows_of(table)]
    assert rows == [chunk.row() for chunk in chunks]
    assert [type(value) for row in rows for value in row["metadata"].values()] == [
        type(value) for _ in texts for _, value in sorted(metadata.items(), key=lambda item: item[0].encode())
    ]
    assert vectors_of(table).tobytes() == vectors.tobytes()
    assert part.vectors == bits_digest(table)


def test_vectors_of_a_slice_are_those_of_its_rows(store: ObjectStore) -> None:
    table = read_part(store, "r", "p", _write(store))
    assert np.array_equal(vectors_of(table.slice(1, 2)), VECTORS[1:3])
    assert np.array_equal(vectors_of(table.take([3, 0])), VECTORS[[3, 0]])


def test_writing_the_same_rows_twice_leaves_one_part(store: ObjectStore) -> None:
    assert _write(store) == _write(store)
    assert len(list(store.list("runs/r/parts/"))) == 1


def test_a_part_of_the_same_rows_is_found_as_it_was_written(store: ObjectStore) -> None:
    assert _find(store) is None
    part = _write(store)
    assert _find(store) == part


@pytest.mark.parametrize(
    "chunks",
    [
        CHUNKS[:3],
        CHUNKS[::-1],
        [*CHUNKS[:3], _chunk(3, "other words")],
        [*CHUNKS[:3], replace(CHUNKS[3], input="another template")],
        [*CHUNKS[:3], replace(CHUNKS[3], document=replace(CHUNKS[3].document, title="another title"))],
    ],
)
def test_a_part_of_other_rows_is_not_found(store: ObjectStore, chunks: list[Chunk]) -> None:
    _write(store)
    assert _find(store, chunks) is None


def test_a_part_of_another_space_or_number_is_not_found(store: ObjectStore) -> None:
    _write(store)
    assert _find(store, space=replace(SPACE, pooling="cls")) is None
    assert _find(store, number=1) is None


def test_a_part_whose_bytes_do_not_match_its_name_is_not_found(store: ObjectStore) -> None:
    part = _write(store)
    key = part_key("r", "p", 0, part.sha256)
    store.put(key, store.get(key) + b"x")
    assert _find(store) is None


def test_of_several_good_parts_the_smallest_name_wins(store: ObjectStore) -> None:
    parts = [_write(store, bits=bits) for bits in (0.0, 1.0, 2.0)]
    found = _find(store)
    assert found is not None
    assert found.sha256 == min(part.sha256 for part in parts)


def test_a_damaged_part_is_refused_naming_it_and_what_to_delete(store: ObjectStore) -> None:
    part = _write(store)
    key = part_key("r", "p", 0, part.sha256)
    data = store.get(key)
    store.put(key, data[:-1] + b"x")
    with pytest.raises(GateRefused, match=rf"{key} is damaged.*delete runs/r/receipts/embed/p\.json.*backhaul embed"):
        read_part(store, "r", "p", part)
    with pytest.raises(GateRefused, match=rf"{key} is damaged"):
        read_columns(store, "r", "p", part, ["id"])


def test_a_part_that_is_gone_is_named_with_what_to_delete(store: ObjectStore) -> None:
    part = _write(store)
    key = part_key("r", "p", 0, part.sha256)
    store.delete([key])
    for read in (lambda: read_part(store, "r", "p", part), lambda: read_columns(store, "r", "p", part, ["id"])):
        with pytest.raises(NotFound, match=rf"{key} is gone.*delete runs/r/receipts/embed/p\.json"):
            read()


def test_columns_of_another_part_under_this_name_are_refused(store: ObjectStore) -> None:
    part, other = _write(store), _write(store, CHUNKS[::-1], number=1)
    store.put(part_key("r", "p", 0, part.sha256), store.get(part_key("r", "p", 1, other.sha256)))
    with pytest.raises(GateRefused, match="is damaged"):
        read_columns(store, "r", "p", replace(part, bytes=other.bytes), ["id"])


def test_a_part_of_a_newer_format_is_refused_by_name(store: ObjectStore) -> None:
    import io

    import pyarrow.parquet as pq

    from pipelines.digest import digest_bytes

    buffer = io.BytesIO()
    pq.write_table(part_table(CHUNKS, VECTORS).replace_schema_metadata({"backhaul": b'{"format": 2}'}), buffer)
    data = buffer.getvalue()
    part = replace(_write(store), sha256=digest_bytes(data))
    store.put(part_key("r", "p", 0, part.sha256), data)
    with pytest.raises(NewerFormat, match=r"parquet has format 2"):
        read_part(store, "r", "p", part)


def test_half_precision_is_kept_in_half_the_bytes_and_read_as_it_is_kept(store: ObjectStore) -> None:
    vectors = (VECTORS / 7).astype(np.float16)
    part, data = encode_part(0, part_table(CHUNKS, vectors), SPACE, MAKER)
    _checkpoint(store).write(0, data)
    table = read_part(store, "r", "p", part)
    assert table.schema.field("vector").type.byte_width == DIMENSIONS * 2
    assert vectors_of(table).dtype == np.float32
    assert (vectors_of(table) == vectors).all()
    assert (vectors_of(read_columns(store, "r", "p", part, ["vector"])) == vectors).all()
    assert _find(store) == part


def test_half_precision_is_told_in_the_files_metadata() -> None:
    table = part_table(CHUNKS, VECTORS.astype(np.float16))
    _, data = encode_part(0, table, SPACE, MAKER)
    found = pq.read_schema(pa.BufferReader(data))
    assert orjson.loads(found.metadata[b"backhaul"])["dtype"] == "float16"
