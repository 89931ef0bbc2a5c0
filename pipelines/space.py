"""Space: what makes vectors comparable. Maker: what makes them reproducible."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.digest import digest_of
from pipelines.errors import SpaceMismatch


@dataclass(frozen=True, slots=True)
class Space:
    """Digests are SHA-256 of the *original* weights and tokenizer, whatever file computes the vectors.

    ``max_tokens`` counts special tokens; ``dimensions`` is the vector's length.
    """

    weights: str
    tokenizer: str
    pooling: str
    query_prompt: str
    document_prompt: str
    normalized: bool
    max_tokens: int
    dimensions: int

    @property
    def fingerprint(self) -> str:
        return digest_of(asdict(self))

    def prompt(self, role: str) -> str:
        """What goes before a text, by its role: document or query."""
        return self.query_prompt if role == "query" else self.document_prompt

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def difference(self, other: Space) -> list[str]:
        """One line per field that differs; empty when the vectors may be compared."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name}: {mine[name]!r} here, {theirs[name]!r} there" for name in mine if mine[name] != theirs[name]]

    def must_equal(self, other: Space, what: str) -> None:
        """Raises SpaceMismatch with the field-by-field difference."""
        if difference := self.difference(other):
            raise SpaceMismatch(
                f"{what} holds vectors of another Space, so distances would mean nothing:\n  "
                + "\n  ".join(difference)
                + "\nUse the model it was made with, or run `backhaul run CONF` to build a generation in this Space."
            )


@dataclass(frozen=True, slots=True)
class RequestedMaker:
    """What the plan asks for, and the run id covers. ``batch_tokens`` bounds one embedding batch."""

    backend: str
    precision: str
    threads: int
    batch_tokens: int
    derived: str | None = None  # digest of the derived file, if one computes the vectors

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ObservedMaker:
    """What a part was really made with. Equal ones promise equal bits for equal plans."""

    requested: RequestedMaker
    versions: tuple[tuple[str, str], ...]
    hardware: str
    batch_tokens: int
    reproducible: bool = True

    def reduced_to(self, batch_tokens: int) -> ObservedMaker:
        """The Maker of what memory made smaller batches of."""
        return replace(self, batch_tokens=batch_tokens, reproducible=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
