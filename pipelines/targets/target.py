"""The IndexTarget seam: one index per generation, written once, searched, made live by an alias.

A target knows rows, mappings and its own client; it knows no runs, parts, receipts or engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from pipelines.embed.embedder import Vectors
from pipelines.targets.extra_settings import check_analysis, check_extra
from pipelines.targets.filters import Filter
from pipelines.targets.vectors import VectorSettings

# Keys that came later count only where they are set, so that the names of older generations stay.
_ALWAYS = ("target", "analyzer", "shards", "replicas", "m", "ef_construction")
_WHERE_SET = ("engine", "vectors", "on_disk", "compression", "gpu_build", "derived_source", "analysis", "settings")


class IndexSettings(VectorSettings):
    target: Literal["opensearch", "lancedb"] = Field(
        "lancedb", description="opensearch | lancedb (embedded, one writer)"
    )
    url: str | None = Field(None, description="OpenSearch: https://host:port; LanceDB: a uri, default <root>/lancedb")
    analyzer: str = Field("english", description="analyser of title and text: a language, or one of index.analysis")
    analysis: dict[str, Any] = Field(
        {}, description="analysers, tokenizers and filters of your own, as OpenSearch's index settings spell them"
    )
    settings: dict[str, Any] = Field(
        {}, description="further index settings (OpenSearch), such as codec; those that Backhaul sets are refused"
    )
    shards: int | None = Field(
        None, ge=1, description="primary shards (OpenSearch); null: by the rows and the processors of the data nodes"
    )
    replicas: int = Field(1, ge=0, description="replicas after the load (OpenSearch)")
    m: int = Field(16, ge=2, description="HNSW: links per node")
    ef_construction: int = Field(128, ge=8, description="HNSW: candidates while building")
    ef_search: int = Field(128, ge=8, description="HNSW: candidates while searching")
    keep_releases: int = Field(3, ge=1, description="generations that `gc` keeps for rollbacks, besides the live one")
    max_bulk_bytes: int = Field(4 << 20, ge=1 << 16, description="serialised bytes of one bulk request (OpenSearch)")
    deadline_s: float = Field(
        120.0,
        gt=0,
        description="seconds that a load waits for an index that refuses everything or is silent (OpenSearch)",
    )
    max_dead_letters: int = Field(0, ge=0, description="rows that the index may refuse for good")
    region: str | None = Field(None, description="AWS region; set, requests are signed with SigV4")
    service: Literal["es", "aoss"] = Field(
        "es", description="what SigV4 signs for: es (managed domain) | aoss (Serverless)"
    )
    verify_certs: bool = Field(True, description="check the server's certificate")
    ca_certs: str | None = Field(None, description="file of certificate authorities to trust instead of the system's")

    def deciding(self) -> dict[str, Any]:
        """What makes another generation of the same run: mapping and index settings, not limits or address."""
        fields = type(self).model_fields
        return self.model_dump(
            include={*_ALWAYS, *(name for name in _WHERE_SET if getattr(self, name) != fields[name].default)}
        )

    @model_validator(mode="after")
    def _target_knows_them(self) -> IndexSettings:
        fields = type(self).model_fields
        of_opensearch = (*_WHERE_SET, "faiss_installed", "server_hybrid")
        if self.target != "opensearch" and (
            found := [name for name in of_opensearch if getattr(self, name) != fields[name].default]
        ):
            raise ValueError(f"{', '.join(found)}: only index.target opensearch knows them")
        check_analysis(self.analysis)
        check_extra(self.settings)
        return self


@dataclass(frozen=True, slots=True)
class Meta:
    """What a generation says of itself (``_meta`` of the mapping): it is recognised by this, never by name."""

    corpus: str
    run_id: str
    space: dict[str, Any]
    metadata_fields: tuple[str, ...]
    metadata_types: dict[str, str] = field(default_factory=dict)  # of those that are no keyword
    format: int = 1


@dataclass(frozen=True, slots=True)
class Generation:
    """``rows`` None: some of its shards do not answer. ``loading``: it is set for loading, not for searching; a load
    of it was begun and not finished, or is under way."""

    name: str
    uuid: str  # the index's own identity: a generation dropped and made again has another
    rows: int | None
    meta: Meta
    loading: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row the index refused for good, with the error type, the reason and the status it gave. ``number`` is the row's
    within its partition; ``status`` None: it was never sent."""

    id: str
    document_id: str
    number: int
    cause: str
    reason: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    rows: int
    dead: tuple[DeadLetter, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """One request of a batch: ``text`` for lexical, ``vector`` for vector (``exact`` scores every row); both for a
    hybrid one, where the target ``fuses``."""

    text: str | None = None
    vector: np.ndarray[Any, np.dtype[np.float32]] | None = None
    exact: bool = False
    k: int = 10
    filters: tuple[Filter, ...] = ()  # by the fields of IndexTarget.filters
    with_vectors: bool = False  # of the hits; returning them can cost ten times the query
    bare: bool = False  # hits need not bring more than id and score


class Rank(NamedTuple):
    """Where a ranking has a hit, from 1, and by which score."""

    rank: int
    score: float


@dataclass(slots=True)  # frozen, each takes six times as long to make, and a hybrid search makes 200
class Hit:
    """A row of an index; higher ``score`` is better, comparable within one answer only. ``start`` and ``end`` are those of
    its text in the document's; ``sources`` says by side (lexical, vector) how a hybrid search came to it. A bare one has its
    id and score alone."""

    id: str
    document_id: str
    score: float
    text: str = ""
    title: str = ""
    uri: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tenant: str | None = None
    doc_type: str | None = None
    date: str | None = None
    ordinal: int = 0
    start: int = 0
    end: int = 0
    vector: np.ndarray[Any, np.dtype[np.float32]] | None = None
    sources: Mapping[str, Rank] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScannedRows:
    """A page of a scan: ``rows[i]`` holds the fields of ``Chunk.row`` plus ``partition``, ``number`` and the
    stored ``row_digest``; ``vectors[i]`` is float32[dimensions], exactly as the index returns it. ``keys[i]`` is what
    ``delete`` takes: the row's id, unless somebody else wrote it. What such a row lacks is None, NaN or -1 (number)."""

    keys: list[str]
    rows: list[dict[str, Any]]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a generation is set as the settings ask, with every copy of it there. ``advice`` is what to do where
    finishing its load once more would not help."""

    sound: bool
    found: str
    advice: str = ""


class IndexTarget(Protocol):
    """Every method raises TargetError naming the url, the cause and the next command.

    Batches given to ``load`` are Arrow tables with the columns of a part (pipelines.parts.SCHEMA_FIELDS)
    plus ``partition`` (string) and ``number`` (int64, row number within the partition).
    """

    id: str  # the cluster's uuid, or "lancedb"
    max_writers: int | None  # None: as many as the engine has
    exact_vectors: bool  # True when vectors come back bit for bit

    @property
    def fuses(self) -> bool:
        """Whether it takes queries of text and vector, scored by reciprocal rank fusion (pipelines.search.fuse)."""

    def create(self, name: str, meta: Meta, dimensions: int, *, rows: int = 0) -> Generation:
        """Make the generation, or return the one of this name after checking that its meta and mapping are
        equal. A half-made one (killed in the middle) is completed. ``rows`` are expected, and decide no more than
        how it is laid out.

        Raises:
            SettingsError: the settings ask for what the index can never have, such as more copies than nodes.
        """

    def find(self, name: str) -> Generation | None: ...

    def meta(self, name: str) -> Meta | None:
        """What a generation says of itself; None: there is none. Asked for every query, and the same for the
        generation's life, so what was seen may be remembered."""

    def generations(self, corpus: str) -> list[Generation]:
        """Every generation whose meta names ``corpus``, live or not, by name."""

    def begin_load(self, name: str) -> None:
        """Set the load profile (refresh off, replicas 0). Safe to repeat."""

    def load(self, name: str, batches: Iterable[pa.Table]) -> Loaded:
        """Write rows under their chunk id. Repeating it is harmless. Durable on return; seen by readers, ``count`` too,
        when the load is finished.

        Raises TargetError at once for what no retry mends, at the deadline for what did not mend.
        """

    def finish_load(self, name: str) -> None:
        """Show what was written, build indices, merge, restore replicas and wait for them, warm, restore refresh. Safe to
        repeat. The generation says that it is ``loading`` until all of it is done."""

    def lost(self, name: str) -> str:
        """What of the generation is gone for good though its cluster answers; empty: nothing, or there is none of this
        name."""

    def differences(self, name: str, dimensions: int) -> list[str]:
        """How the mapping and the graph differ from the settings and from vectors of ``dimensions``, each as "name:
        value here, value there"; empty when they do not."""

    def health(self, name: str, *, wait_s: float = 0.0) -> Health:
        """Waits up to ``wait_s`` seconds for copies that are on their way; not for what no waiting brings."""

    def count(self, name: str, partition: str | None = None) -> int: ...

    def scan(self, name: str, partition: str) -> Iterator[ScannedRows]:
        """Every row of one partition, by ``number``, in bounded memory; the empty string: rows that name none."""

    def partitions(self, name: str) -> dict[str, int]:
        """Rows per partition id, strangers included; rows that name none under the empty string."""

    def delete(self, name: str, ids: Sequence[str]) -> None:
        """Rows by their ``keys``; absent ones are no error. Seen on return."""

    def search(self, name: str, queries: Sequence[Query], *, deadline_s: float | None = None) -> list[list[Hit]]:
        """One list of at most ``k`` hits per query, best first. ``name`` is concrete, never the alias. ``deadline_s``
        seconds are all that it may take, the index's own work included, where the target can say so.

        Raises:
            NoGeneration: there is none of this name.
            QueryRefused: a filter is not of ``filters``, or its values not of its type.
        """

    def rows(self, name: str, hits: Sequence[Hit], *, with_vectors: bool = False, deadline_s: float | None = None,
             ) -> list[Hit]:  # fmt: skip
        """The hits with their rows, in their order. Of bare ones those whose row is gone are left out."""

    def filters(self, name: str) -> dict[str, str]:
        """Type of each field that a query may filter by: keyword, number, date or boolean."""

    def chunks(self, name: str, document_id: str, filters: Sequence[Filter], limit: int, *,
               deadline_s: float | None = None) -> list[Hit]:  # fmt: skip
        """The first ``limit`` rows of a document by ordinal, of those that pass the filters; each scores 0."""

    def live(self, corpus: str) -> str | None:
        """The generation that the alias ``corpus`` names. Raises TargetError when something else has the name."""

    def move_alias(self, corpus: str, expected: str | None, to: str) -> None:
        """Compare-and-swap in one call. Raises AliasMoved when the live generation is not ``expected``."""

    def drop(self, name: str) -> None:
        """Absent is no error; the live one is refused."""

    def describe(self) -> dict[str, str]:
        """What it is and how it does, for ``doctor``. Raises TargetError when unreachable."""

    def capabilities(self) -> dict[str, str]:
        """What it can do, for ``doctor``: "yes", "no" or "unknown", each with its reason, or a version."""

    def refusals(self) -> list[str]:
        """Why it cannot hold what the settings ask for, a sentence each; ``create`` refuses with them."""
