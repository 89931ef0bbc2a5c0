"""How a source is divided into partitions: what the user may say about it. Knows no listing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.plan.pattern import PathPattern

MODIFIED = ("modified_year", "modified_month", "modified_day")
"""Names of ``by`` that come from the object's modification date (UTC) rather than its path."""


class PartitionSettings(BaseModel):
    """``path`` reads values from the relative key, ``by`` says which of them divide the corpus.

    ``path`` is a glob with fields: ``{doc_type}/{date:%Y-%m}/*``. Hive-style segments (``year=2024/``) are read
    without one. A ``date`` offers year, month and day as far as its format goes. ``by`` empty: size alone divides.
    ``target_tokens`` is the mean; partitions of several objects hold between half and twice as many.
    ``max_objects`` bounds the objects of one partition, since each costs a request whatever its size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = Field(
        None, description="glob of the relative key with fields in braces: {doc_type}/{date:%Y-%m}/*"
    )
    by: tuple[str, ...] = Field(
        (), description="fields that divide the corpus; modified_month and the like use the object's date"
    )
    target_tokens: int = Field(2_000_000, ge=1_000, description="mean tokens of a partition, the retry unit")
    max_objects: int = Field(10_000, ge=2, description="objects of one partition at most")

    @model_validator(mode="after")
    def _path_and_by_agree(self) -> PartitionSettings:
        if self.path is not None:
            offered = PathPattern(self.path).offers
            if not offered:
                raise ValueError(f"path {self.path!r} names no field; write one in braces, such as {{doc_type}}/**")
            if not self.by:
                raise ValueError(f"path is set but by is empty, so it would do nothing; add by: [{', '.join(offered)}]")
        if repeated := sorted({name for name in self.by if self.by.count(name) > 1}):
            raise ValueError(f"by names {', '.join(repeated)} twice")
        return self
