"""Documents into chunks: what is embedded, how long it is, and what the model will not see of it.

Knows no vectors, parts or stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from pipelines.document import Chunk, Document, Span
from pipelines.embed.embedder import Encoded, Tokenizer
from pipelines.ledger import Ledger
from pipelines.poison import blame_document
from pipelines.rejects import Reject, Rejects
from pipelines.split.splitter import SplitSettings, Splitter
from pipelines.split.template import render

LEAST_BUDGET = 16
_COUNT_ROWS = 256
_COUNT_CHARS = 4 << 20


@dataclass(frozen=True, slots=True)
class _Uncounted:
    document: Document
    ordinal: int
    span: Span
    text: str
    input: str


def split_documents(documents: Iterable[Document], splitter: Splitter, settings: SplitSettings, tokenizer: Tokenizer,
                    max_tokens: int, ledger: Ledger, rejects: Rejects) -> Iterator[Chunk]:  # fmt: skip
    """The chunks of each document in order, tokens counted; counts and losses go to the ledger.

    Args:
        max_tokens: the model's limit (of the Space): what an input has beyond it is lost, and counted.
    """
    rows = _cut(documents, splitter, settings, tokenizer, max_tokens, rejects)
    encoded = chain.from_iterable(_encode(batch, tokenizer, max_tokens, rejects) for batch in _batches(rows))
    for document, chunks in groupby(encoded, key=lambda pair: pair[0].document):
        blank: list[_Uncounted] = []
        is_document = False
        for row, found in chunks:
            if found is None:
                is_document = True
                continue
            ids, tokens = found
            if tokens <= tokenizer.special_tokens:
                blank.append(row)
                continue
            is_document = True
            ledger.chunk(document.position.key, document.doc_type, tokens, max_tokens=max_tokens)
            yield Chunk(document, row.ordinal, row.text, row.span, row.input, tokens, ids)
        if not is_document:
            _reject(rejects, "blank_text", document, "the tokenizer finds no token in it", document.text)
            continue
        ledger.document(document.doc_type)
        for row in blank:
            _reject(rejects, "blank_chunk", document, f"the tokenizer finds no token in chunk {row.ordinal}", row.text)


def _cut(documents: Iterable[Document], splitter: Splitter, settings: SplitSettings, tokenizer: Tokenizer,
         max_tokens: int, rejects: Rejects) -> Iterator[_Uncounted]:  # fmt: skip
    limit = min(settings.max_tokens, max_tokens)
    for document in documents:
        try:
            spans = splitter.split(document.text, _budget(document, settings, tokenizer, limit))
        except BaseException as error:
            _reject(rejects, "poison_document", document, blame_document(error, "splitting"), document.text)
            continue
        if not spans:
            _reject(rejects, "blank_text", document, "nothing of the text is left to embed", document.text)
            continue
        for ordinal, span in enumerate(spans):
            text = document.text[span.start : span.end]
            yield _Uncounted(document, ordinal, span, text, render(settings.template, document, text))


def _budget(document: Document, settings: SplitSettings, tokenizer: Tokenizer, limit: int) -> int:
    """Tokens left for a chunk's text beside special tokens and the rest of the template."""
    if settings.method == "none":
        return limit
    rest = render(settings.template, document, "")
    around = tokenizer.count([rest])[0] if rest else tokenizer.special_tokens
    return max(LEAST_BUDGET, limit - around)


def _encode(batch: Sequence[_Uncounted], tokenizer: Tokenizer, max_tokens: int,
            rejects: Rejects) -> list[tuple[_Uncounted, Encoded | None]]:  # fmt: skip
    """The rows with their tokens. When some text makes the tokenizer fail, each is encoded alone to find which; it has
    None, and is rejected."""
    try:
        return list(zip(batch, tokenizer.encode([row.input for row in batch], max_tokens), strict=True))
    except BaseException as error:
        blame_document(error, "tokenising")
    encoded: list[tuple[_Uncounted, Encoded | None]] = []
    for row in batch:
        try:
            encoded.append((row, tokenizer.encode([row.input], max_tokens)[0]))
        except BaseException as error:
            reason = blame_document(error, f"tokenising chunk {row.ordinal}")
            _reject(rejects, "poison_chunk", row.document, reason, row.text)
            encoded.append((row, None))
    return encoded


def _batches(rows: Iterable[_Uncounted]) -> Iterator[list[_Uncounted]]:
    """Enough to keep a tokenizer's threads busy, and few enough characters to hold."""
    batch: list[_Uncounted] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += len(row.input)
        if len(batch) >= _COUNT_ROWS or chars >= _COUNT_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _reject(rejects: Rejects, cause: str, document: Document, reason: str, text: str) -> None:
    rejects.add(Reject(cause, reason, str(document.position), document.id, text[:200]), document.doc_type)
