"""The Splitter seam: a text in, spans out. Knows no documents and no template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.document import Span
from pipelines.split.template import check_template

Method = Literal["none", "tokens", "sentences", "recursive"]
TokenSpans = Callable[[str], list[tuple[int, int]]]


class SplitSettings(BaseModel):
    """``max_tokens`` bounds the whole embedded input: template, title and special tokens included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(
        "tokens", description="none | tokens | sentences | recursive (Markdown headings, paragraphs)"
    )
    max_tokens: int = Field(
        256, ge=16, description="longest embedded input: template, title and special tokens included"
    )
    overlap_tokens: int = Field(32, ge=0, description="tokens that neighbouring chunks share")
    template: str = Field("{title} {text}", description="what is embedded: {text} and other fields of the document")

    @model_validator(mode="after")
    def _fits(self) -> SplitSettings:
        if self.method != "none" and self.overlap_tokens * 2 > self.max_tokens:
            raise ValueError("overlap_tokens may be at most half of max_tokens")
        check_template(self.template)
        return self


class Splitter(Protocol):
    def split(self, text: str, budget_tokens: int) -> list[Span]:
        """Spans of ``text`` in order, none empty or all whitespace, each of at most ``budget_tokens`` tokens.

        Together they cover every character that is not whitespace. Deterministic. Method ``none`` gives
        one span and ignores the budget.
        """
