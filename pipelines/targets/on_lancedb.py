"""The embedded index: a generation is one LanceDB table in a folder or bucket; no service to start.

One writer at a time. The newest release record *is* the alias. Knows rows, never runs or parts.
LanceDB keeps threads: start processes by spawn, never by fork.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pyarrow as pa

from pipelines.errors import AliasMoved, NoGeneration, SettingsError, TargetError
from pipelines.releases import ReleaseLog
from pipelines.storage import StorageSettings
from pipelines.targets.filters import Filter, equals, filter_types
from pipelines.targets.lancedb_connection import Connection, text_analysis
from pipelines.targets.lancedb_import import import_lancedb
from pipelines.targets.lancedb_indices import (
    ANN_MIN_ROWS,
    LEAST_M,
    build_indices,
    build_text_index,
    has_graph,
    optimize,
)
from pipelines.targets.lancedb_rows import (
    SCAN_FIELDS,
    corpus_of,
    differences,
    is_dropped,
    literal,
    mark_dropped,
    merge_batches,
    must_be_same,
    scanned_rows,
    stored_meta,
    table_schema,
    where,
)
from pipelines.targets.lancedb_search import answer, chunks
from pipelines.targets.target import Generation, Health, Hit, IndexSettings, Loaded, Meta, Query, ScannedRows

_COMMITS_PER_TIDYING = 128  # while loading: every version lists every file, so a long history costs its square
_SCAN_ROWS = 1024
_DELETE_IDS = 1000


class LanceTarget:
    """An IndexTarget (pipelines.targets.target) at ``uri``: file:///folder, s3://bucket/prefix or memory://name."""

    id = "lancedb"
    max_writers: int | None = 1
    exact_vectors = True
    fuses = False

    def __init__(self, settings: IndexSettings, uri: str, storage: StorageSettings, log: ReleaseLog) -> None:
        text_analysis(settings.analyzer)  # a wrong setting is told now, not after a load
        if settings.m < LEAST_M:
            raise SettingsError(f"index.m is {settings.m}; LanceDB takes {LEAST_M} or more")
        self._settings = settings
        self._connection = Connection(uri, storage)
        self._log = log

    def create(self, name: str, meta: Meta, dimensions: int, *, rows: int = 0) -> Generation:
        if self._find(name) is None:
            self._remove(name)  # what a kill left of a drop
            schema = table_schema(meta, dimensions, self._settings, uuid.uuid4().hex)
            try:
                with self._connection.translated(f"creating {name}"):
                    self._connection.tables().create_table(name, schema=schema)
            except TargetError:
                if self._find(name) is None:  # else another process made it meanwhile
                    raise
        table = self._open(name)
        must_be_same(table.schema, table_schema(meta, dimensions, self._settings, ""), self._place(name))
        with self._connection.translated(f"preparing {name} for search"):
            build_text_index(table, self._settings)
        return self._generation(name, table)

    def find(self, name: str) -> Generation | None:
        table = self._find(name)
        return None if table is None else self._generation(name, table)

    def meta(self, name: str) -> Meta | None:
        table = self._find(name)
        return None if table is None else stored_meta(table.schema, self._place(name))[0]

    def generations(self, corpus: str) -> list[Generation]:
        tables = ((name, self._find(name)) for name in sorted(self._names()))
        # Not by truth: an empty table is false.
        return [self._generation(name, t) for name, t in tables if t is not None and corpus_of(t.schema) == corpus]

    def begin_load(self, name: str) -> None:
        self._open(name)  # nothing to switch off; an absent generation is told here

    def load(self, name: str, batches: Iterable[pa.Table]) -> Loaded:
        """Each merge of up to ``max_bulk_bytes`` is one commit and one file, and found by everyone at once."""
        rows = 0
        for batch in merge_batches(batches, self._open(name).schema, self._settings.max_bulk_bytes):
            # Opened for each merge: credentials may have been renewed, and the newest version is the base.
            table = self._open(name)
            before = table.version
            with self._connection.translated(f"loading into {name}"):
                merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                merge.execute(batch)
                if before // _COMMITS_PER_TIDYING != table.version // _COMMITS_PER_TIDYING:
                    optimize(table, keep=self._grace(name))
            rows += batch.num_rows
        return Loaded(rows)

    def finish_load(self, name: str) -> None:
        table = self._open(name)
        with self._connection.translated(f"building the indices of {name}"):
            optimize(table, keep=self._grace(name))
            build_indices(table, self._settings)
            optimize(table, keep=self._grace(name))

    def differences(self, name: str, dimensions: int) -> list[str]:
        schema, what = self._open(name).schema, self._place(name)
        return differences(schema, table_schema(stored_meta(schema, what)[0], dimensions, self._settings, ""), what)

    def health(self, name: str, *, wait_s: float = 0.0) -> Health:
        self._open(name)
        return Health(True, "one copy, in the object store")

    def lost(self, name: str) -> str:
        return ""  # a table is whole or cannot be read

    def count(self, name: str, partition: str | None = None) -> int:
        table = self._open(name)
        with self._connection.translated(f"counting {name}"):
            return int(table.count_rows(None if partition is None else where((equals("partition", partition),))))

    def scan(self, name: str, partition: str) -> Iterator[ScannedRows]:
        """Two passes: numbers and row addresses of the partition first, then its rows by pages of 1,024.

        The table is read at the version it had when the scan began.
        """
        table = self._open(name)
        with self._connection.translated(f"scanning {name}"):
            rows = table.search().where(where((equals("partition", partition),))).select(["number"]).with_row_id(True)
            places = rows.to_arrow().sort_by("number")["_rowid"].to_pylist()
        for start in range(0, len(places), _SCAN_ROWS):
            with self._connection.translated(f"scanning {name}"):
                page = table.take_row_ids(places[start : start + _SCAN_ROWS]).select(list(SCAN_FIELDS)).to_arrow()
            yield scanned_rows(page)

    def partitions(self, name: str) -> dict[str, int]:
        table, rows = self._open(name), Counter[str]()
        with self._connection.translated(f"counting {name}"):
            for batch in table.search().select(["partition"]).to_batches():
                for found in batch.column("partition").value_counts().to_pylist():
                    rows[found["values"]] += found["counts"]
        return dict(rows)

    def delete(self, name: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _DELETE_IDS):
            some = ", ".join(map(literal, ids[start : start + _DELETE_IDS]))
            table = self._open(name)
            with self._connection.translated(f"deleting from {name}"):
                table.delete(f"id IN ({some})")

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]:
        """Lexical: BM25 over title and text. Vector: cosine, by the HNSW graph where one is built. Embedded, it takes no
        deadline."""
        table = self._open(name)
        with self._connection.translated(f"searching {name}"):
            graph = any(query.vector is not None for query in queries) and has_graph(table)
            return [answer(table, query, graph=graph, ef=self._settings.ef_search) for query in queries]

    def rows(self, name: str, hits: Sequence[Hit], *, with_vectors: bool = False, deadline_s: float | None = None,
             ) -> list[Hit]:  # fmt: skip
        return list(hits)  # none is bare: it is in this process, and reads rows with the search

    def filters(self, name: str) -> dict[str, str]:
        return filter_types({})

    def chunks(self, name: str, document_id: str, filters: Sequence[Filter], limit: int, *,
               deadline_s: float | None = None) -> list[Hit]:  # fmt: skip
        table = self._open(name)
        with self._connection.translated(f"reading {name}"):
            return chunks(table, document_id, filters, limit)

    def live(self, corpus: str) -> str | None:
        newest = self._log.newest(self.id)
        return newest.generation if newest else None

    def move_alias(self, corpus: str, expected: str | None, to: str) -> None:
        newest = self._log.newest(self.id)
        if (newest.generation if newest else None) != expected:
            raise self._moved(corpus, expected)
        if self._find(to) is None:
            raise self._absent(to)
        if to != expected and self._log.append(self.id, to, after=newest) is None:
            raise self._moved(corpus, expected)

    def drop(self, name: str) -> None:
        newest = self._log.newest(self.id)
        if newest and newest.generation == name:
            raise TargetError(f"{name} is live; `backhaul rollback CONF` or another release first, then drop it")
        table = self._find(name)
        if table is not None:
            with self._connection.translated(f"dropping {name}"):
                # A removal of many files can be killed in the middle: first it must look dropped in one commit,
                # and no older version may be left that would look whole.
                mark_dropped(table)
                optimize(table, keep=timedelta(0))
        self._remove(name)

    def describe(self) -> dict[str, str]:
        return {
            "target": f"LanceDB {import_lancedb().__version__} (embedded, one writer)",
            "url": self._connection.uri,
            "tables": str(len(self._names())),
            "analyzer": self._settings.analyzer,
            "approximate search": f"HNSW from {ANN_MIN_ROWS:,} rows on; below that every search is exact",
        }

    def capabilities(self) -> dict[str, str]:
        return {
            "types of metadata": "no: values keep their types in one column, declared or not",
            "filters by metadata": f"no: by {', '.join(filter_types({}))}",
            "analysis": "no: language analysers and standard",
            "hybrid": "no: fused here",
        }

    def refusals(self) -> list[str]:
        return []

    def _names(self) -> list[str]:
        names: list[str] = []
        with self._connection.translated("listing"):
            database, page = self._connection.tables(), None
            while True:
                answer = database.list_tables(page_token=page)
                names += answer.tables
                page = answer.page_token
                if not page:
                    return names

    def _find(self, name: str) -> Any:  # Any: lancedb is untyped at this border
        """The table at its newest version; None when it is absent, a stranger's or half dropped."""
        table = self._table(name)
        return None if table is None or corpus_of(table.schema) is None else table

    def _table(self, name: str) -> Any:  # Any: lancedb is untyped at this border
        database = self._connection.tables()
        try:
            with self._connection.translated(f"opening {name}"):
                return database.open_table(name)
        except TargetError as error:
            if "was not found" in str(error):
                return None
            raise

    def _open(self, name: str) -> Any:  # Any: lancedb is untyped at this border
        table = self._find(name)
        if table is None:
            raise self._absent(name)
        stored_meta(table.schema, self._place(name))
        return table

    def _remove(self, name: str) -> None:
        if name not in self._names():
            return
        table = self._table(name)
        if table is not None and corpus_of(table.schema) is None and not is_dropped(table.schema):
            raise TargetError(f"{self._place(name)} was not made by Backhaul; choose another corpus name or index.url")
        with self._connection.translated(f"dropping {name}"):
            self._connection.tables().drop_table(name, ignore_missing=True)

    def _generation(self, name: str, table: Any) -> Generation:  # Any: lancedb is untyped at this border
        meta, _, uuid_ = stored_meta(table.schema, self._place(name))
        with self._connection.translated(f"counting {name}"):
            return Generation(name, uuid_, int(table.count_rows()), meta)

    def _place(self, name: str) -> str:
        return f"{self._connection.uri}/{name}"

    def _grace(self, name: str) -> timedelta:
        """How old a version must be to be removed: readers of the live generation may still be on the last ones."""
        newest = self._log.newest(self.id)
        return timedelta(minutes=10) if newest and newest.generation == name else timedelta(0)

    def _absent(self, name: str) -> NoGeneration:
        return NoGeneration(
            f"LanceDB at {self._connection.uri} has no generation {name}; `backhaul list CONF` shows what there is, "
            "`backhaul load CONF` makes it"
        )

    def _moved(self, corpus: str, expected: str | None) -> AliasMoved:
        return AliasMoved(
            f"{corpus} is live as {self.live(corpus)}, not {expected}: another release came first; "
            "`backhaul status CONF` shows it, the same command decides anew"
        )
