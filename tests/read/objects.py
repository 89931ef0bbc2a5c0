"""Objects in a store of their own, as slices of a plan, and rows spelled in every format."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterable

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.document import Document
from pipelines.partition import Partition, Slice
from pipelines.read.documents import read_documents
from pipelines.read.formats import open_reader
from pipelines.read.reader import Broken, Record, SourceSettings
from pipelines.rejects import Reject, Rejects
from pipelines.store import Store, open_store

URI = "memory://source"
Row = dict[str, object]


def fresh_store() -> Store:
    return open_store(f"memory://{uuid.uuid4()}")


def listed(store: Store, key: str, data: bytes, start: int = 0, end: int | None = None) -> Slice:
    store.put(key, data)
    found = store.head(key)
    return Slice(found.key, found.etag, found.size, start, end, found.version)


def source(name: str = "jsonl", **settings: object) -> SourceSettings:
    return SourceSettings.model_validate({"uri": URI, "format": name, **settings})


def read_bytes(settings: SourceSettings, key: str, data: bytes, start: int = 0,
               end: int | None = None) -> list[Record | Broken]:  # fmt: skip
    store = fresh_store()
    return list(open_reader(settings).read(store, listed(store, key, data, start, end)))


def documents_of(settings: SourceSettings, data: bytes, name: str = "a",
                 key: tuple[tuple[str, str], ...] = ()) -> tuple[list[Document], list[Reject]]:  # fmt: skip
    store, rejects = fresh_store(), Rejects()
    partition = Partition("p", 0, key, (listed(store, name, data),))
    documents = list(read_documents(store, partition, settings, rejects))
    written = rejects.write(store, "run", "embed", "p")
    lines = store.get(f"runs/run/{written}").splitlines() if written else []
    return documents, [Reject(*orjson.loads(line)) for line in lines]


def json_lines(rows: Iterable[Row]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def delimited(rows: Iterable[Row], delimiter: str = ",") -> bytes:
    rows = list(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet(rows: Iterable[Row], rows_per_group: int = 3) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out, row_group_size=rows_per_group)
    return out.getvalue()


def causes(found: Iterable[Record | Broken]) -> list[str]:
    """``ok`` or the cause, record by record."""
    return [one.cause if isinstance(one, Broken) else "ok" for one in found]
