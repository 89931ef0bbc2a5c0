"""The token ledger: what was embedded, and what was lost on the way, by source. Nothing is lost in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_WORST = 20


class LimitsSettings(BaseModel):
    """Shares are fractions of the whole run: of records, of tokens. ``max_truncated_share`` null: report only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_reject_share: float = Field(0.01, ge=0, le=1, description="largest share of records that may be rejected")
    max_truncated_share: float | None = Field(
        None, ge=0, le=1, description="largest share of tokens that the model's limit may cut off; null: report only"
    )
    max_bad_vectors: int = Field(
        0, ge=0, description="vectors of the run that may be NaN or zero; their rows are rejected"
    )


@dataclass
class Ledger:
    """Counts of one partition. ``tokens`` counts inputs before truncation, special tokens included."""

    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    truncated_chunks: int = 0
    truncated_tokens: int = 0
    empty: int = 0
    zero_vectors: int = 0
    nan_vectors: int = 0
    truncated_by_source: Counter[str] = field(default_factory=Counter)

    def truncate(self, source: str, tokens: int) -> None:
        """One input of ``source`` (a relative key) lost its last ``tokens`` tokens to the model's limit."""
        self.truncated_chunks += 1
        self.truncated_tokens += tokens
        self.truncated_by_source[source] += tokens

    def to_json(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in COUNTS}
        worst = sorted(self.truncated_by_source.items(), key=lambda item: (-item[1], item[0]))[:_WORST]
        return {**counts, "truncated_by_source": dict(worst)}


COUNTS = (
    "documents",
    "chunks",
    "tokens",
    "truncated_chunks",
    "truncated_tokens",
    "empty",
    "zero_vectors",
    "nan_vectors",
)


def total(ledgers: list[dict[str, Any]]) -> dict[str, Any]:
    """The sum of partitions' ledgers, as ``to_json`` gave them; the worst sources of each are merged."""
    sources: Counter[str] = Counter()
    for ledger in ledgers:
        sources.update(ledger["truncated_by_source"])
    return {**{name: sum(ledger[name] for ledger in ledgers) for name in COUNTS},
            "truncated_by_source": dict(sources.most_common(_WORST))}  # fmt: skip
