"""A table's rows as ``index`` actions and documents in SMILE, whole columns at once. Knows no index and no request.

The bytes follow the SMILE format specification 1.0.6 of the Jackson project: every action and document has a header of
its own, without shared names or texts, and ends at 0xFF, which occurs nowhere else.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.embed.embedder import Vectors
from pipelines.parts import OF_PARTS_ALONE, vectors_of

_HEADER, _SEPARATOR = b":)\n\x00", b"\xff"
_OBJECT, _END_OBJECT, _ARRAY, _END_ARRAY = b"\xfa", b"\xfb", b"\xf8", b"\xf9"
_NULL, _FALSE, _TRUE = b"\x21", b"\x22", b"\x23"
_INT32, _INT64, _INTEGER, _FLOAT32, _FLOAT64 = 0x24, 0x25, 0x26, 0x28, 0x29
_TEXT, _LONG_NAME, _END_TEXT = b"\xe4", b"\x34", b"\xfc"  # UTF-8 of any length
_BINARY = pa.large_binary()
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)

Bytes = NDArray[np.uint8]
# Of every row the same, or one binary a row.
Piece: TypeAlias = bytes | pa.Array


def spell_smile(table: pa.Table) -> tuple[memoryview, list[int]]:
    """The lines of all rows in one buffer, and where each ends. The vectors must be finite."""
    pieces = [_HEADER + _OBJECT + _name("index") + _OBJECT + _name("_id"), *_values(table, "id"),
              _END_OBJECT * 2 + _SEPARATOR + _HEADER + _OBJECT]  # fmt: skip
    for column in table.column_names:
        if column not in OF_PARTS_ALONE:
            pieces += [_name(column), *_values(table, column)]
    return _joined([*pieces, _END_OBJECT + _SEPARATOR])


def spell_value(value: Any) -> bytes:  # Any: JSON
    """One value by itself."""
    match value:
        case None:
            return _NULL
        case bool():
            return _TRUE if value else _FALSE
        case str():
            return _TEXT + value.encode() + _END_TEXT
        case int():
            return _integer(value)
        case float():
            bits = int.from_bytes(np.float64(value).tobytes(), "little")
            return bytes([_FLOAT64, *(bits >> shift & 0x7F for shift in range(63, -1, -7))])
        case list():
            return _ARRAY + b"".join(map(spell_value, value)) + _END_ARRAY
        case dict():
            return _OBJECT + b"".join(_name(key) + spell_value(each) for key, each in value.items()) + _END_OBJECT
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def _values(table: pa.Table, column: str) -> list[Piece]:
    """A column's values, each a whole token."""
    found = table[column]
    if column == "vector":
        return [_binaries(_vectors(vectors_of(table)))]
    if column == "metadata":
        return [_metadata(found)]
    if pa.types.is_fixed_size_binary(found.type):
        return [_binaries(_hex(found))]
    if pa.types.is_integer(found.type):
        return [_binaries(_integers(found.to_numpy()))]
    return _texts(found)


def _texts(column: pa.ChunkedArray) -> list[Piece]:
    """Texts or nulls."""
    texts = _whole(column).cast(_BINARY)
    if not texts.null_count:
        return [_TEXT, texts, _END_TEXT]
    spelled = pc.binary_join_element_wise(_one(_TEXT), texts, _one(_END_TEXT), _one(b""))
    return [pc.fill_null(spelled, _one(_NULL))]


def _metadata(column: pa.ChunkedArray) -> pa.Array:
    """Each distinct object is spelled once."""
    distinct = _whole(column).dictionary_encode()
    spelled = [spell_value(orjson.loads(text)) for text in distinct.dictionary.to_pylist()]
    return pa.array(spelled, _BINARY).take(distinct.indices)


def _vectors(vectors: Vectors) -> Bytes:
    """uint8[rows, 6 * dimensions + 2]: a component's 32 bits are in five bytes, seven in each but the first."""
    rows, dimensions = vectors.shape
    made = np.empty((rows, 6 * dimensions + 2), np.uint8)
    made[:, 0], made[:, -1] = ord(_ARRAY), ord(_END_ARRAY)
    bits, spelled = vectors.view("<u4"), made[:, 1:-1].reshape(rows, dimensions, 6)
    spelled[..., 0] = _FLOAT32
    for byte, shift in enumerate((28, 21, 14, 7, 0), 1):
        np.bitwise_and(bits >> np.uint32(shift), np.uint32(0x7F), out=spelled[..., byte], casting="unsafe")
    return made


def _integers(values: NDArray[Any]) -> Bytes:  # Any: int32 or int64
    """uint8[rows, 6 or 11]: with leading zeros, so that all of a column are of one length."""
    bits = values.dtype.itemsize * 8
    zigzag = ((values << 1) ^ (values >> (bits - 1))).view(f"u{bits // 8}")
    made = np.empty((len(values), 1 + -(-(bits + 1) // 7)), np.uint8)
    made[:, 0] = _INT32 if bits == 32 else _INT64
    made[:, -1] = zigzag & 0x3F | 0x80
    for byte in range(made.shape[1] - 2, 0, -1):
        shift = 6 + 7 * (made.shape[1] - 2 - byte)
        made[:, byte] = zigzag >> shift & 0x7F
    return made


def _integer(value: int) -> bytes:
    """Of 64 bits, with or without a sign."""
    if value < 2**63:
        return _integers(np.array([value])).tobytes()
    # Big-endian bytes in sevens of bits; fourteen of them leave no bit over, whose place implementations dispute.
    return bytes([_INTEGER, 0x80 | 14, *(value >> shift & 0x7F for shift in range(105, -1, -7))])


def _hex(column: pa.ChunkedArray) -> Bytes:
    """uint8[rows, 2 * width + 2]: the bytes as text in hex digits."""
    whole = _whole(column)
    width = whole.type.byte_width
    raw = np.frombuffer(whole.buffers()[1], np.uint8, len(whole) * width, whole.offset * width)
    made = np.empty((len(whole), 2 * width + 2), np.uint8)
    made[:, 0], made[:, -1] = _TEXT[0], _END_TEXT[0]
    made[:, 1:-1] = _HEX[raw].view(np.uint8).reshape(len(whole), 2 * width)
    return made


@cache
def _name(name: str) -> bytes:
    """A key of an object: with its length in the first byte where that can hold it."""
    encoded = name.encode()
    if not encoded:
        return b"\x20"
    if name.isascii() and len(encoded) <= 64:
        return bytes([0x80 + len(encoded) - 1]) + encoded
    if not name.isascii() and len(encoded) <= 57:
        return bytes([0xC0 + len(encoded) - 2]) + encoded
    return _LONG_NAME + encoded + _END_TEXT


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """As one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def _one(data: bytes) -> pa.Scalar:
    return pa.scalar(data, _BINARY)


def _binaries(spelled: Bytes) -> pa.Array:
    """A binary of each row, without a copy."""
    rows, width = spelled.shape
    ends = np.arange(0, (rows + 1) * width, width, dtype=np.int64)
    return pa.Array.from_buffers(_BINARY, rows, [None, pa.py_buffer(ends), pa.py_buffer(spelled)])


def _joined(pieces: list[Piece]) -> tuple[memoryview, list[int]]:
    """Of each row all pieces, one row after the other. Neighbouring constants cost one piece."""
    columns: list[pa.Scalar | pa.Array] = []
    constant = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            constant += piece
        else:
            columns += [_one(constant), piece]
            constant = b""
    made = pc.binary_join_element_wise(*columns, _one(constant), _one(b""))
    _, ends, data = made.buffers()
    return memoryview(data), np.frombuffer(ends, np.int64, len(made), 8).tolist()
