"""The Embedder seam: texts and their role in, vectors out. Knows no documents, parts or stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import EmbedderError
from pipelines.space import ObservedMaker, Space

Vectors = NDArray[np.float32]
TokenIds = NDArray[np.int32]
Role = Literal["document", "query"]


class Encoded(NamedTuple):
    """A text as a model takes it: token ids, special tokens included, int32[<= its limit], or None where its embedder
    has no use for them; and how many there were before any was cut off."""

    ids: TokenIds | None
    tokens: int


class Embedder(Protocol):
    """Construct once per process (it loads the model); call many times from one thread."""

    space: Space
    maker: ObservedMaker

    def embed(self, texts: Sequence[str], role: Role, ids: Sequence[TokenIds] | None = None) -> Vectors:
        """float32[len(texts), dimensions], row i for texts[i]. ``ids`` are those of the texts in this role, where the
        caller has them from ``Tokenizer.encode``: then nothing is tokenised twice.

        Texts longer than ``space.max_tokens`` are cut there, as the model does; whoever cares counts
        tokens first. The same texts in the same call give the same bits for one Maker that is reproducible: an
        embedder cuts them into batches by ``batch_tokens`` and length alone.

        Raises:
            TextsRefused: some of the texts will never be taken, and it is known which.
        """


class TextsRefused(EmbedderError):
    """``reasons`` by the number of the text; ``vectors`` float32[texts, dimensions] holds the rows of all others, and
    zeros for these. So nothing that was paid for is asked for again."""

    def __init__(self, reasons: Mapping[int, str], vectors: Vectors) -> None:
        first = next(iter(reasons.values()))
        super().__init__(f"{len(reasons)} of {len(vectors)} texts were refused for good, the first because: {first}")
        self.reasons = reasons
        self.vectors = vectors


class Tokenizer(Protocol):
    """The model's own tokenizer."""

    digest: str
    special_tokens: int  # added to every input

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Character span [start, end) of each token of ``text``, without special tokens, in order."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included, before any truncation."""

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[Encoded]:
        """The ids of each text as a document, cut so that ``max_tokens`` are left, special tokens included."""
