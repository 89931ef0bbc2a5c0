"""JSON Lines: one JSON object a line. Knows no field's meaning."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from pipelines.document import Position
from pipelines.partition import Slice
from pipelines.read.decompress import Damaged
from pipelines.read.framing import BOM, Frame, read_frames, sample_of, too_large
from pipelines.read.reader import Broken, Record, SourceSettings
from pipelines.store import Store


class JsonLines:
    cuttable = True

    def __init__(self, source: SourceSettings) -> None:
        self._max_bytes = source.max_document_bytes

    def read(self, store: Store, piece: Slice) -> Iterator[Record | Broken]:
        try:
            for frame in read_frames(store, piece, self._max_bytes):
                if (found := self._parse(piece.key, frame)) is not None:
                    yield found
        except Damaged as damage:
            yield Broken(Position(piece.key, damage.offset), damage.cause, damage.reason)

    def _parse(self, key: str, frame: Frame) -> Record | Broken | None:
        position = Position(key, frame.offset)
        if frame.too_large:
            return Broken(position, "too_large", too_large(frame, self._max_bytes), sample_of(frame.data))
        line = frame.data.removeprefix(BOM) if frame.offset == 0 else frame.data
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not line.strip():
                return None
            return _broken(position, line, error)
        if not isinstance(value, dict):
            return Broken(position, "broken_json", f"the line is a JSON {_kind(value)}, not an object", sample_of(line))
        return Record(position, value)


def _broken(position: Position, line: bytes, error: orjson.JSONDecodeError) -> Broken:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as wrong:
        reason = f"byte {wrong.start} of the line is not UTF-8 ({wrong.reason})"
        return Broken(position, "encoding", reason, sample_of(line))
    # Half of a surrogate pair, escaped: it is JSON, but no text that can be stored.
    cause = "encoding" if "surrogate" in str(error) else "broken_json"
    return Broken(position, cause, str(error), sample_of(line))


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
