"""What a question does: its generation, its vector, its filters; the index asked; the hits checked. Knows no HTTP."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jobs.service.auth import Caller
from jobs.service.cache import Once
from jobs.service.cursor import Cursor, read_cursor
from jobs.service.encoder import Encoder
from jobs.service.index import Index, Spent, Timed, refusal_of, within
from jobs.service.limits import LimitSettings
from jobs.service.live import Follower
from jobs.service.problems import Refusal
from jobs.service.question import digest_of_question, filters_of, given_vector, how_of, must_be_small
from jobs.service.requests import SearchRequest
from jobs.service.tenancy import filters_for, own
from pipelines.embed.embedder import Role, Vectors
from pipelines.errors import NoGeneration, TargetError
from pipelines.search import search_vectors
from pipelines.space import Space
from pipelines.targets.filters import equals
from pipelines.targets.target import Hit, Meta

_MOST_CHUNKS = 500  # of a document that is shown


@dataclass(frozen=True, slots=True)
class Answer:
    generation: str
    hits: list[Hit]
    cursor: str | None


@dataclass(slots=True)
class Searcher:
    """Used from one event loop. ``encoder`` None: lexical search, and queries that come as vectors, alone. Its methods raise
    Refusal, and BackhaulError where something behind it fails in a way that no refusal tells."""

    index: Index
    corpus: str
    follower: Follower
    encoder: Encoder | None
    limits: LimitSettings
    vectors: Once[Vectors]
    answers: Once[tuple[list[Hit], bool]]
    _named: dict[str, Meta] = field(default_factory=dict)

    async def search(self, asked: SearchRequest, caller: Caller, spent: Spent) -> Answer:
        return await self._search(asked, caller, spent, time.monotonic() + self.limits.deadline_s)

    async def _search(self, asked: SearchRequest, caller: Caller, spent: Spent, until: float) -> Answer:
        depth = self.limits.depth
        filters = filters_for(caller, filters_of(asked))
        must_be_small(asked, filters, self.limits)
        question = digest_of_question(asked, caller)
        cursor = read_cursor(asked.cursor, question, depth) if asked.cursor else None
        generation, meta = await self._generation(asked.generation, cursor, until)
        spent.generation = generation
        how = how_of(asked, filters, cursor.skip if cursor else 0, depth)
        wanted = replace(how, k=min(how.k + 1, depth - how.skip))  # one more says whether there are more
        key = (generation, caller.tenant, question, how.skip, how.k)

        async def ask() -> tuple[list[Hit], bool]:
            vector = await self._vector(asked, generation, meta, until, spent)
            timed = Timed(self.index.target, spent)
            hits = await self.index.ask(
                lambda left: search_vectors(timed, generation, [asked.query], vector, wanted, deadline_s=left)[0],
                until,
                took,
            )
            return hits[: how.k], len(hits) > how.k

        try:
            with self.index.admitted(caller.tenant, kept=self.answers.has(key)) as took:
                (hits, more), spent.cached = await within(self.answers.get(key, ask), until)
        except TargetError as error:
            return await self._again(asked, caller, spent, until, generation, error)
        own(hits, caller)
        spent.hits = len(hits)
        end = how.skip + len(hits)
        following = str(Cursor(generation, question, end)) if more and end < depth else None
        return Answer(generation, hits, following)

    async def embed(self, texts: Sequence[str], role: Role, caller: Caller, spent: Spent) -> Vectors:
        """float32[len(texts), dimensions]."""
        if self.encoder is None:
            raise Refusal("not_found", "this service embeds nothing; it answers lexical search and vectors")
        until, began = time.monotonic() + self.limits.deadline_s, time.monotonic()
        with self.index.admitted(caller.tenant):
            vectors = await within(self.encoder.many(texts, role), until)
        spent.embed_s = time.monotonic() - began
        return vectors

    async def document(self, document_id: str, generation: str | None, tenant: str | None, caller: Caller, spent: Spent,
                       ) -> tuple[str, list[Hit], bool]:  # fmt: skip
        """(generation, chunks by ordinal, whether these are all)."""
        until = time.monotonic() + self.limits.deadline_s
        filters = filters_for(caller, () if tenant is None else (equals("tenant", tenant),))
        name, _ = await self._generation(generation, None, until)
        spent.generation = name
        target = self.index.target
        try:
            with self.index.admitted(caller.tenant) as took:
                hits = await self.index.ask(
                    lambda left: target.chunks(name, document_id, filters, _MOST_CHUNKS + 1, deadline_s=left),
                    until,
                    took,
                )
        except TargetError as error:
            raise refusal_of(error) from error
        own(hits, caller)
        spent.hits = len(hits)
        if not hits:
            raise Refusal("not_found", f"generation {name} has no document {document_id[:200]!r} for this caller")
        return name, hits[:_MOST_CHUNKS], len(hits) <= _MOST_CHUNKS

    async def _generation(self, named: str | None, cursor: Cursor | None, until: float) -> tuple[str, Meta]:
        """The live one, or the cursor's or the named one if it is of this corpus. The alias is resolved here, once for all
        that a question asks."""
        name, live = cursor.generation if cursor else named, self.follower.now
        if live and name in (None, live.name):
            return live.name, live.meta
        if name is None:
            raise Refusal("unavailable", self.follower.trouble or "no live generation is known yet", retry_after_s=1)
        meta = self._named.get(name) or await self._read_named(name, until)
        if meta is None:
            raise _gone(name) if cursor else Refusal(
                "not_found", f"corpus {self.corpus} has no generation {name[:100]!r}; GET /v1/generations lists them")  # fmt: skip
        self._named[name] = meta
        return name, meta

    async def _read_named(self, name: str, until: float) -> Meta | None:
        if not re.fullmatch(rf"{re.escape(self.corpus)}-[0-9a-f]{{12}}-[0-9a-f]{{8}}", name):
            return None  # no alias, no pattern, no index of others
        try:
            meta = await within(self.index.thread(lambda: self.index.target.meta(name)), until)
        except TargetError as error:
            raise refusal_of(error) from error
        return meta if meta and meta.corpus == self.corpus else None

    async def _vector(
        self, asked: SearchRequest, generation: str, meta: Meta, until: float, spent: Spent
    ) -> Vectors | None:
        """float32[1, dimensions] in the generation's Space; None for lexical search."""
        if asked.mode == "lexical":
            return None
        space = Space(**meta.space)
        if asked.vector is not None:
            return given_vector(asked.vector, space.dimensions, generation)
        if self.encoder is None:
            raise Refusal("bad_request", "this service embeds no queries; use mode lexical, or give a vector")
        if difference := self.encoder.space.difference(space):
            raise Refusal("space_mismatch", f"generation {generation} holds vectors of another Space than this service embeds "
                          "queries in; serve it with the settings that it was made with", details=difference, retry_after_s=60)  # fmt: skip
        encoder, text, began = self.encoder, asked.query or "", time.monotonic()
        vector, _ = await within(self.vectors.get((space.fingerprint, text), lambda: encoder.query(text)), until)
        spent.embed_s = time.monotonic() - began
        return vector[None, :]

    async def _again(self, asked: SearchRequest, caller: Caller, spent: Spent, until: float, generation: str,
                     error: TargetError) -> Answer:  # fmt: skip
        """A generation may have been dropped since the last look: then another one is live, or it was named."""
        if not isinstance(error, NoGeneration):
            raise refusal_of(error) from error
        self._named.pop(generation, None)
        if asked.generation or asked.cursor:
            raise _gone(generation) from error
        await within(self.follower.look(), until)
        live = self.follower.now
        if live is None or live.name == generation:
            raise refusal_of(error) from error
        return await self._search(asked, caller, spent, until)


def _gone(generation: str) -> Refusal:
    return Refusal("gone", f"generation {generation} is gone; ask again without cursor and generation")
