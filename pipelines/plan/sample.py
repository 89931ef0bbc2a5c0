"""A small look into some objects: how many documents and tokens a stored byte holds. Knows no totals."""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import zstandard

from pipelines.embed.embedder import Tokenizer
from pipelines.plan.cuts import key_hash
from pipelines.plan.footers import first_rows
from pipelines.plan.listing import Listing
from pipelines.poison import blame_document
from pipelines.read.decompress import compression_of
from pipelines.read.reader import SourceSettings
from pipelines.store import Object, Store

SAMPLE_BYTES = 64 << 10
_UNPACKED_BYTES = 128 << 10
_ZSTD_FEED_BYTES = 512
_PARQUET_ROWS, _PARQUET_BYTES = 64, 1 << 20
_CHARACTERS_PER_TOKEN = 4  # of English, the usual rule of thumb; used only without a tokenizer
_SPECIAL_TOKENS = 2


class BrokenSample(Exception):
    """Nothing could be learnt from an object; the message says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one object's beginning says. ``document_tokens`` counts each document read, special tokens
    included; ``stored_bytes`` is what these documents take in the store, ``raw_bytes`` what they unpack to."""

    object: Object
    stored_bytes: float
    raw_bytes: float
    document_tokens: tuple[int, ...]


def choose(listing: Listing, count: int) -> list[Object]:
    """``count`` objects, the likelier the bigger, so that the mean of their ratios is unbiased for the corpus.

    Drawn by the hash of the key (exponential race: Efraimidis and Spirakis, "Weighted random sampling with a
    reservoir", 2006), so the same listing gives the same objects, and a changed one nearly the same.
    """
    keys, sizes = listing.column("key"), listing.column("size")
    if len(keys) > count:
        races = [-math.log((key_hash(key) + 1) / 2**64) / size for key, size in zip(keys, sizes, strict=True)]
        winners = sorted(range(len(keys)), key=races.__getitem__)[:count]
    else:
        winners = list(range(len(keys)))
    rows = listing.table.take(pa.array(sorted(winners), type=pa.int64())).to_pylist()
    return [Object(**row) for row in rows]


def look(store: Store, one: Object, source: SourceSettings, tokenizer: Tokenizer | None) -> Sample:
    """Read at most 64 KB of the object (of Parquet: some rows and the footer), conditional on its ETag.

    Raises:
        BrokenSample: what was read holds no document.
        SourceChanged, NotFound, Denied, StoreError: as the store says.
    """
    if source.format == "parquet":
        return _look_into_parquet(store, one, source, tokenizer)
    data = store.get(one.key, if_match=one.etag or None, end=min(one.size, SAMPLE_BYTES))
    raw, used = _unpacked(one.key, data)
    cut_short = used < one.size
    records, share = _records(raw, source, cut_short=cut_short)
    texts = _texts(records, source)
    raw_bytes = len(raw) * share
    return Sample(one, max(1.0, used * share), raw_bytes, tuple(_count(texts, tokenizer)))


def _look_into_parquet(store: Store, one: Object, source: SourceSettings, tokenizer: Tokenizer | None) -> Sample:
    fields = source.fields
    columns = [fields.text, *([fields.title] if fields.title else [])]
    try:
        found = first_rows(store, one, columns, rows=_PARQUET_ROWS, max_bytes=_PARQUET_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise BrokenSample(str(error).splitlines()[0][:200]) from error
    if fields.text not in found.columns:
        raise BrokenSample(_no_text(source, found.columns))
    tokens = tuple(_count(_texts(found.rows, source), tokenizer))
    stored = one.size * len(found.rows) / found.of
    return Sample(one, stored, stored, tokens)


def _unpacked(key: str, data: bytes) -> tuple[bytes, int]:
    """At most 128 KB of content, and how many of the bytes given it took."""
    compression = compression_of(key) or ""
    try:
        if compression == "gzip":
            return _gunzipped(data)
        if compression == "zstd":
            return _unzstd(data)
    except (zlib.error, zstandard.ZstdError) as error:
        raise BrokenSample(f"not {compression}: {error}") from error
    return data, len(data)


def _gunzipped(data: bytes) -> tuple[bytes, int]:
    raw, rest = b"", data
    while rest and len(raw) < _UNPACKED_BYTES:
        member = zlib.decompressobj(wbits=31)
        raw += member.decompress(rest, _UNPACKED_BYTES - len(raw))
        rest = member.unused_data if member.eof else member.unconsumed_tail
        if not member.eof:
            break
    return raw, len(data) - len(rest)


def _unzstd(data: bytes) -> tuple[bytes, int]:
    # Fed in small pieces, since one call gives all that its input holds, and a hostile block holds much.
    # A block comes out once it is complete: what is fed after the last one has not been used.
    unpacker = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    raw, used = b"", 0
    for start in range(0, len(data), _ZSTD_FEED_BYTES):
        if found := unpacker.decompress(data[start : start + _ZSTD_FEED_BYTES]):
            raw, used = raw + found, min(start + _ZSTD_FEED_BYTES, len(data))
        if len(raw) >= _UNPACKED_BYTES:
            break
    return raw, used


def _records(raw: bytes, source: SourceSettings, *, cut_short: bool) -> tuple[list[dict[str, Any]], float]:
    """The whole records in ``raw``, and the share of it that they take."""
    if source.format in ("text", "markdown"):
        return [{source.fields.text: raw.decode(errors="replace")}], 1.0
    if source.format in ("csv", "tsv"):
        return _rows(raw.decode(errors="replace"), "\t" if source.format == "tsv" else ",", cut_short=cut_short)
    end = raw.rfind(b"\n") + 1 if cut_short else len(raw)
    if not end:
        raise BrokenSample(f"no record ends within its first {len(raw):,} bytes")
    records = []
    for line in raw[:end].splitlines():
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the reader rejects it with its position
        if isinstance(record, dict):
            records.append(record)
    return records, end / len(raw)


def _rows(text: str, delimiter: str, *, cut_short: bool) -> tuple[list[dict[str, Any]], float]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise BrokenSample(str(error)) from error
    kept = rows[:-1] if cut_short else rows
    return kept, len(kept) / len(rows) if kept else 1.0


def _texts(records: Sequence[dict[str, Any]], source: SourceSettings) -> list[str]:
    fields = source.fields
    found = [record for record in records if isinstance(record.get(fields.text), str)]
    if records and not found:
        raise BrokenSample(_no_text(source, records[0]))
    if not found:
        raise BrokenSample("it holds no whole record")
    titles = [record.get(fields.title) if fields.title else None for record in found]
    return [
        f"{title} {record[fields.text]}" if title and isinstance(title, str) else record[fields.text]
        for title, record in zip(titles, found, strict=True)
    ]


def _no_text(source: SourceSettings, names: Iterable[str]) -> str:
    found = ", ".join(sorted(map(str, names))[:20])
    return f"no record has a text in field {source.fields.text!r} (source.fields.text); it has: {found}"


def _count(texts: list[str], tokenizer: Tokenizer | None) -> list[int]:
    if tokenizer is not None:
        try:
            return tokenizer.count(texts)
        except BaseException as error:
            blame_document(error, "tokenising")
        return [_count_one(text, tokenizer) for text in texts]
    return [math.ceil(len(text) / _CHARACTERS_PER_TOKEN) + _SPECIAL_TOKENS for text in texts]


def _count_one(text: str, tokenizer: Tokenizer) -> int:
    """Guessed for a text that the tokenizer cannot take, which will be a reject."""
    try:
        return tokenizer.count([text])[0]
    except BaseException as error:
        blame_document(error, "tokenising")
    return _count([text], None)[0]
