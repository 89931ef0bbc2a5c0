"""The seam between the remote embedder and a service's protocol: one request, and jobs over files. Knows no service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.remote_pace import Limit


@dataclass(frozen=True, slots=True)
class Answer:
    """``vectors`` float32[texts, dimensions] in the order of the texts; ``tokens`` as billed, None where it is not
    told; ``limits`` as the answer tells them; ``model`` what the service says has made them."""

    vectors: Vectors
    tokens: int | None
    limits: tuple[Limit, ...] = ()
    model: str | None = None


class Service(Protocol):
    """One protocol of one service. Thread-safe."""

    name: str  # for messages: what is asked, and where
    key: str  # for messages: where its credentials come from
    texts_per_request: int

    def send(self, texts: Sequence[str], role: Role) -> Answer:
        """One try. Raises Refused for whatever else it meets, an answer that does not answer for every text included."""


class Jobs(Protocol):
    """Vectors by jobs over files instead of requests."""

    least_texts: int

    def embed(self, texts: Sequence[str], role: Role) -> tuple[Vectors, list[int]]:
        """float32[texts, dimensions], and the numbers of those that are still without a vector.

        Raises:
            EmbedderHalted: jobs are refused as a whole, or fail as a whole.
        """
