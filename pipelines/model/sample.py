"""A deterministic sample of what a corpus would embed: for calibration, and for labels made of the corpus itself. Reads
through the real reader, splitter and template; writes nothing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice

from pipelines.document import Chunk, Document
from pipelines.embed.embedder import Tokenizer
from pipelines.errors import SettingsError
from pipelines.ledger import Ledger
from pipelines.partition import Partition, Slice
from pipelines.plan.cuts import key_hash
from pipelines.plan.estimate import SAMPLE_OBJECTS
from pipelines.plan.listing import list_source, open_source
from pipelines.plan.sample import choose
from pipelines.read.documents import read_documents
from pipelines.read.reader import SourceSettings
from pipelines.rejects import Rejects
from pipelines.space import Space
from pipelines.split.documents import split_documents
from pipelines.split.methods import open_splitter
from pipelines.split.splitter import SplitSettings

_LOOKED_AT = 20_000  # documents, of which the sample is drawn


def sample_chunks(source: SourceSettings, split: SplitSettings, tokenizer: Tokenizer, space: Space,
                  count: int) -> list[Chunk]:  # fmt: skip
    """At most ``count`` chunks, one of each sampled document, in the order of their ids.

    Documents are drawn by the hash of their id out of the first 20,000 of at most 16 objects, bigger ones likelier: the
    same source gives the same sample, and one that grew nearly the same.

    Raises:
        SettingsError: the source holds no text.
        StoreError: it could not be read.
    """
    drawn = heapq.nsmallest(count, _documents(source), key=lambda document: (key_hash(document.id), document.id))
    splitter, ledger, rejects = open_splitter(split, tokenizer.spans), Ledger(), Rejects()
    chunks = split_documents(drawn, splitter, split, tokenizer, space.max_tokens, ledger, rejects)
    by_document: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_document.setdefault(chunk.document.id, []).append(chunk)
    if not by_document:
        raise SettingsError(f"no text was found under {source.uri} to take a sample of; check source.fields.text")
    # Not always the first chunk: the middle of a document reads unlike its beginning.
    return [found[key_hash(f"chunk of {id_}") % len(found)] for id_, found in sorted(by_document.items())]


def _documents(source: SourceSettings) -> Iterator[Document]:
    store, only = open_source(source)
    objects = choose(list_source(store, source, only), SAMPLE_OBJECTS)
    for one in objects:
        whole = Slice(one.key, one.etag, one.size, version=one.version)
        found = read_documents(store, Partition("", 0, (), (whole,)), source, Rejects())
        yield from islice(found, _LOOKED_AT // len(objects))
