"""An Embedder whose vectors a service makes: texts are cut into requests, sent at the pace that the service allows,
and every answer is checked before a vector is taken from it.

Knows no protocol: a Service sends one request. Vectors of a service do not depend on their batch as far as it says,
so that batches may follow from timing here, and its Maker promises no bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.embed.delivery import PROBE, Delivery
from pipelines.embed.embedder import Role, TextsRefused, TokenIds, Tokenizer, Vectors
from pipelines.embed.remote_gate import RemoteGate
from pipelines.embed.remote_pace import RemotePace
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.embed.service import Jobs, Service
from pipelines.embed.spent import Account
from pipelines.errors import GateRefused
from pipelines.space import ObservedMaker, RequestedMaker, Space

_NORM = 0.01  # by which a vector that is said to be normalised may be off: half precision and base64 stay far below


class RemoteEmbedder:
    """``account`` counts what was asked for and billed, the probe included."""

    def __init__(self, service: Service, settings: RemoteSettings, space: Space, requested: RequestedMaker,
                 tokenizers: dict[Role, Tokenizer], jobs: Jobs | None = None,
                 account: Account | None = None) -> None:  # fmt: skip
        self.space = space
        self.name = service.name
        self.compared = ""  # what was found when its vectors were compared with the model's own, for people
        self.account = account or Account()
        self._service = service
        self._settings = settings
        self._tokenizers = tokenizers
        self._jobs = jobs
        self._gate = RemoteGate(RemotePace(settings.max_in_flight))
        model = self._probe()
        self.maker = ObservedMaker(requested, (("service's model", model or settings.model),), "remote", 0,
                                   reproducible=False)  # fmt: skip

    def embed(self, texts: Sequence[str], role: Role, ids: Sequence[TokenIds] | None = None) -> Vectors:
        if not texts:
            return np.empty((0, self.space.dimensions), dtype=np.float32)
        inputs = self._inputs(texts, role)
        vectors = np.zeros((len(texts), self.space.dimensions), dtype=np.float32)
        refused = {i: reason for i, (text, _) in enumerate(inputs) if (reason := _unsendable(text))}
        left = [i for i in range(len(texts)) if i not in refused]
        if self._jobs and role == "document" and len(left) >= self._jobs.least_texts:
            rows, without = self._jobs.embed([inputs[i][0] for i in left], role)
            vectors[left] = rows
            left = [left[i] for i in without]
        if left:
            refused |= self._deliver(inputs, role).into(vectors, left)
        if refused:
            raise TextsRefused(refused, vectors)
        return vectors

    def _inputs(self, texts: Sequence[str], role: Role) -> list[tuple[str, int]]:
        """What is sent of each text: its prompt before it, cut at the model's limit; with its tokens."""
        tokenizer, prompt = self._tokenizers[role], self._prompt(role)
        counts = tokenizer.count(texts)
        cut = [text if count <= self.space.max_tokens else fitted(text, tokenizer, self.space.max_tokens)
               for text, count in zip(texts, counts, strict=True)]  # fmt: skip
        return [(prompt + text, min(count, self.space.max_tokens)) for text, count in zip(cut, counts, strict=True)]

    def _prompt(self, role: Role) -> str:
        return self.space.query_prompt if role == "query" else self.space.document_prompt

    def _deliver(self, inputs: Sequence[tuple[str, int]], role: Role, *, is_first: bool = False) -> Delivery:
        return Delivery(self._service, self._gate, self.account, inputs, role, deadline_s=self._settings.deadline_s,
                        most_in_flight=self._settings.max_in_flight, is_first=is_first)  # fmt: skip

    def _probe(self) -> str | None:
        """What the service says its model is, after one text was embedded as the settings declare it.

        Raises:
            EmbedderHalted: it cannot be asked. GateRefused: it gives other vectors than declared.
        """
        vectors = np.zeros((1, self.space.dimensions), dtype=np.float32)
        delivery = self._deliver(self._inputs([PROBE], "document"), "document", is_first=True)
        if refused := delivery.into(vectors, [0]):
            raise GateRefused(f"{self._service.name} does not take a plain text ({refused[0]}); check embed.remote")
        length = float(np.linalg.norm(vectors[0]))
        if self.space.normalized and abs(length - 1) > _NORM:
            raise GateRefused(
                f"{self._service.name} gave a vector of length {length:.3g}, and embed.remote declares vectors of length 1; "
                "set embed.remote.normalized: false, or let the service normalise"
            )
        return delivery.model


def fitted(text: str, tokenizer: Tokenizer, max_tokens: int) -> str:
    """The longest beginning of ``text`` that is whole words and has at most ``max_tokens`` tokens, special ones
    included; within one endless word, a beginning of that."""
    room = max_tokens - tokenizer.special_tokens
    end = tokenizer.spans(text)[max(0, room - 1)][1]
    word = max(text.rfind(space, 0, end + 1) for space in " \n\t")
    cut = text[: word if word > 0 else end]
    while len(cut) > 1 and tokenizer.count([cut])[0] > max_tokens:
        cut = cut[: len(cut) * 9 // 10]
    return cut


def _unsendable(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON may spell and no service takes
        return f"the text is no Unicode ({error.reason} at {error.start})"
    return None
