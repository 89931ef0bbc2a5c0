"""Questions and answers of the HTTP API, typed and bounded. Knows no index and no caller.

No query DSL passes: what a client may say is these fields. Bounds that the settings may tighten are checked where the
settings are known (jobs/service/searcher.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from pipelines.search import Fusion, Mode

MOST_CHARACTERS = 10_000
MOST_DIMENSIONS = 4_096
MOST_K = 1_000
MOST_FILTERS = 16
MOST_VALUES = 256

Value = Annotated[str, StringConstraints(max_length=1_000)] | StrictBool | int | float
Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(_Request):
    """Both included; one may be left out."""

    from_: Value | None = Field(None, alias="from")
    to: Value | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Bounds:
        if self.from_ is None and self.to is None:
            raise ValueError("a range needs from, to, or both")
        return self


class FusionRequest(_Request):
    method: Fusion = "rrf"
    lexical_weight: float = Field(0.5, ge=0, le=1, description="share of the lexical side in a weighted fusion")


Conditions = dict[Name, Value | Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)] | Bounds]


class SearchRequest(_Request):
    model_config = ConfigDict(
        frozen=True, extra="forbid",
        json_schema_extra={"examples": [
            {"query": "how much memory does a process use?", "k": 5},
            {"query": "parse a date", "mode": "lexical", "filter": {"doc_type": ["function", "class"]}, "explain": True},
        ]},
    )  # fmt: skip

    query: Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)] | None = Field(
        None, description="words or a sentence; lexical and hybrid search need it"
    )
    vector: Annotated[list[Number], Field(min_length=1, max_length=MOST_DIMENSIONS)] | None = Field(
        None, description="a query vector in the Space of the generation, instead of embedding the query"
    )
    mode: Mode = "hybrid"
    k: int = Field(10, ge=1, le=MOST_K, description="hits")
    exact: StrictBool = Field(False, description="score every row instead of walking the graph")
    filter: Annotated[Conditions, Field(max_length=MOST_FILTERS)] = Field(
        {}, description="by field: a value, a list of values, or a range with from and to; every hit meets all of them"
    )
    group_by_document: StrictBool = Field(False, description="the best hit of each document alone")
    cursor: Annotated[str, StringConstraints(max_length=1_000)] | None = Field(
        None, description="of the answer before: the hits after it, of the same generation"
    )
    explain: StrictBool = Field(False, description="ranks and scores by source")
    highlight: StrictBool = Field(True, description="where words of the query stand in the text")
    fusion: FusionRequest = FusionRequest()
    generation: Name | None = Field(None, description="instead of the live one")
    with_vectors: StrictBool = Field(False, description="vectors of the hits")

    @model_validator(mode="after")
    def _has_what_its_mode_needs(self) -> SearchRequest:
        if self.query is not None and not self.query.strip():
            raise ValueError("query is empty; ask with some words")
        if self.query is None and (self.vector is None or self.mode != "vector"):
            raise ValueError(f"mode {self.mode} needs query" + (" or vector" if self.mode == "vector" else ""))
        return self


class EmbedRequest(_Request):
    texts: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]],
        Field(min_length=1, max_length=32),
    ]
    role: Literal["query", "document"] = "query"


class RankAnswer(BaseModel):
    rank: int
    score: float


class HitAnswer(BaseModel):
    id: str
    document_id: str
    score: float
    text: str
    title: str
    uri: str
    metadata: dict[str, Any]  # as declared: JSON scalars
    tenant: str | None
    doc_type: str | None
    date: str | None
    ordinal: int
    start: int = Field(description="characters of the text within the document")
    end: int
    highlights: list[tuple[int, int]] = Field(description="characters of text, in code points")
    sources: dict[str, RankAnswer] | None = Field(description="lexical, vector; with explain")
    vector: list[float] | None


class SearchAnswer(BaseModel):
    generation: str
    mode: Mode
    took_ms: float
    cursor: str | None = Field(description="for the hits after these; null: there are no more")
    hits: list[HitAnswer]


class EmbedAnswer(BaseModel):
    vectors: list[list[float]]
    dimensions: int
    space: str = Field(description="fingerprint of the Space")
    took_ms: float


class GenerationAnswer(BaseModel):
    name: str
    run_id: str
    rows: int | None = Field(description="chunks; null for callers of one tenant, and where the index does not count")
    live: bool
    released_at: str | None
    age_s: float | None


class GenerationsAnswer(BaseModel):
    corpus: str
    live: str | None
    generations: list[GenerationAnswer]
    filters: dict[str, str] = Field(description="keyword, number, date or boolean, by field")
    modes: list[Mode]
    limits: dict[str, int]
    tenant: str | None


class ChunkAnswer(BaseModel):
    id: str
    ordinal: int
    text: str
    start: int
    end: int


class DocumentAnswer(BaseModel):
    generation: str
    document_id: str
    title: str
    uri: str
    metadata: dict[str, Any]  # as declared: JSON scalars
    doc_type: str | None
    date: str | None
    chunks: list[ChunkAnswer]
    whole: bool = Field(description="false: there are more chunks than are shown")


class Problem(BaseModel):
    code: str
    message: str
    details: list[Any] = []  # what the code's own explanation says


class ProblemAnswer(BaseModel):
    error: Problem


class ReadyAnswer(BaseModel):
    ready: bool
    reasons: list[str]
    generation: str | None
