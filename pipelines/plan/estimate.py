"""What a run will come to: documents, tokens, rows, parts, hours and price, from a small sample.

Guesses are called guesses. Knows no rates and prices of its own: the caller gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, TypeVar

from pipelines.embed.embedder import Tokenizer
from pipelines.errors import Denied, NotFound, SourceChanged
from pipelines.plan.listing import Listing
from pipelines.plan.sample import BrokenSample, Sample, choose, look
from pipelines.poison import blame_document
from pipelines.read.decompress import compression_of
from pipelines.read.reader import SourceSettings
from pipelines.split.splitter import SplitSettings
from pipelines.store import Object, Store

T = TypeVar("T")
SAMPLE_OBJECTS = 16
_THREADS = 8
_KEPT_LENGTHS = 512
_GUESSED_TOKENS_PER_BYTE = 0.25
_GUESSED_DOCUMENT_BYTES = 2_000
_GUESSED_COMPRESSION = 4.0  # of text, by gzip or zstd; used for objects of a kind that no sample was taken of


@dataclass(frozen=True, slots=True)
class Estimate:
    """Totals of the whole listing. ``tokens_per_byte`` is by compression (``""``, ``gzip``, ``zstd``) and counts
    stored bytes; ``document_tokens`` are the lengths of some sampled documents, special tokens included."""

    objects: int
    bytes: int
    documents: int
    tokens: int
    tokens_per_byte: Mapping[str, float]
    document_tokens: tuple[int, ...]
    sampled_objects: int
    sampled_bytes: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "tokens_per_byte": dict(self.tokens_per_byte)}


def estimate(store: Store, listing: Listing, source: SourceSettings, tokenizer: Tokenizer | None, *,
             sample_objects: int = SAMPLE_OBJECTS) -> Estimate:  # fmt: skip
    """Look into at most ``sample_objects`` objects, 64 KB of each. A broken one becomes a note, not a failure.

    Raises:
        Denied: every object looked into was refused.
        StoreError: the store could not be reached.
    """
    chosen = choose(listing, sample_objects)
    with ThreadPoolExecutor(_THREADS) as pool:
        looks = list(pool.map(lambda one: _look_or_error(store, one, source, tokenizer), chosen))
    samples = [found for found in looks if isinstance(found, Sample)]
    denied = [found for found in looks if isinstance(found, Denied)]
    if denied and len(denied) == len(looks):
        raise denied[0]
    stored = _stored_bytes(listing)
    tokens_per_byte = _ratios(samples, stored, lambda one: sum(one.document_tokens), _GUESSED_TOKENS_PER_BYTE)
    documents_per_byte = _ratios(samples, stored, lambda one: len(one.document_tokens), 1 / _GUESSED_DOCUMENT_BYTES)
    whole = source.format in ("text", "markdown")  # one document each
    return Estimate(
        objects=len(listing),
        bytes=sum(stored.values()),
        documents=len(listing) if whole else _total(stored, documents_per_byte),
        tokens=_total(stored, tokens_per_byte),
        tokens_per_byte=tokens_per_byte,
        document_tokens=_lengths_of_objects(listing, tokens_per_byte) if whole else _lengths(samples),
        sampled_objects=len(samples),
        sampled_bytes=round(sum(one.stored_bytes for one in samples)),
        notes=(*_notes(chosen, looks), *(() if tokenizer else ("tokens are guessed: 4 characters each",))),
    )


def expected_rows(found: Estimate, split: SplitSettings) -> int:
    """Chunks of all documents, from the sampled lengths."""
    lengths = found.document_tokens or (1,)
    return round(found.documents * fmean(_chunks(length, split) for length in lengths))


def expected_tokens(found: Estimate, split: SplitSettings, max_tokens: int) -> int:
    """Tokens to embed: what the documents hold, less what the model cuts off at ``max_tokens`` when nothing is
    split, and what neighbouring chunks share."""
    if split.method == "none" and found.document_tokens:
        lengths = found.document_tokens
        return round(found.tokens * sum(min(length, max_tokens) for length in lengths) / max(1, sum(lengths)))
    return found.tokens + max(0, expected_rows(found, split) - found.documents) * split.overlap_tokens


def expected_parts(tokens_by_partition: Sequence[int], rows: int, rows_per_part: int) -> int:
    """Every partition has its own parts, the last of them not full."""
    total = sum(tokens_by_partition) or 1
    return sum(max(1, math.ceil(rows * tokens / total / rows_per_part)) for tokens in tokens_by_partition)


def hours(tokens: int, tokens_per_s: float) -> float:
    """Of all workers together, at their common rate."""
    return tokens / tokens_per_s / 3600


def price(hours: float, usd_per_hour: float) -> float:
    """US dollars."""
    return hours * usd_per_hour


def price_of_tokens(tokens: int, usd_per_million: float | None) -> float:
    """US dollars that a service bills; none where the price is not known."""
    return tokens / 1e6 * (usd_per_million or 0.0)


def _chunks(tokens: int, split: SplitSettings) -> int:
    if split.method == "none" or tokens <= split.max_tokens:
        return 1
    return math.ceil((tokens - split.overlap_tokens) / (split.max_tokens - split.overlap_tokens))


def _look_or_error(store: Store, one: Object, source: SourceSettings, tokenizer: Tokenizer | None) -> (
    Sample | BrokenSample | Denied | NotFound | SourceChanged
):  # fmt: skip
    try:
        return look(store, one, source, tokenizer)
    except (BrokenSample, Denied, NotFound, SourceChanged) as error:
        return error
    except BaseException as error:  # what one document does must not stop the planning of all others
        return BrokenSample(blame_document(error, "looking into it"))


def _stored_bytes(listing: Listing) -> dict[str, int]:
    """Bytes in the store by compression."""
    stored: dict[str, int] = {}
    for key, size in zip(listing.column("key"), listing.column("size"), strict=True):
        compression = compression_of(key) or ""
        stored[compression] = stored.get(compression, 0) + size
    return stored


def _ratios(
    samples: list[Sample], kinds: Iterable[str], count: Callable[[Sample], int], guess: float
) -> dict[str, float]:
    """The mean over samples of a count per stored byte, by compression.

    A kind without a sample takes the mean per unpacked byte of all others, or the guess.
    """
    per_raw_byte = fmean([count(one) / one.raw_bytes for one in samples]) if samples else guess
    ratios = {}
    for kind in sorted({"", *kinds}):
        own = [count(one) / one.stored_bytes for one in samples if (compression_of(one.object.key) or "") == kind]
        ratios[kind] = fmean(own) if own else per_raw_byte * (_GUESSED_COMPRESSION if kind else 1.0)
    return ratios


def _total(stored: Mapping[str, int], ratios: Mapping[str, float]) -> int:
    return round(sum(size * ratios[kind] for kind, size in stored.items()))


def _lengths(samples: list[Sample]) -> tuple[int, ...]:
    """The same number of documents of each sample, spread over it."""
    each = max(1, _KEPT_LENGTHS // max(1, len(samples)))
    return tuple(length for one in samples for length in _spread(one.document_tokens, each))


def _lengths_of_objects(listing: Listing, ratios: Mapping[str, float]) -> tuple[int, ...]:
    pairs = list(zip(listing.column("key"), listing.column("size"), strict=True))
    return tuple(math.ceil(size * ratios[compression_of(key) or ""]) for key, size in _spread(pairs, _KEPT_LENGTHS))


def _spread(values: Sequence[T], count: int) -> Sequence[T]:
    step = max(1, math.ceil(len(values) / count))
    return values[::step]


def _notes(chosen: list[Object], looks: Sequence[object]) -> tuple[str, ...]:
    """One line per reason why a sample told nothing."""
    broken: dict[str, list[str]] = {}
    for one, error in zip(chosen, looks, strict=True):
        if isinstance(error, Exception):
            broken.setdefault(str(error), []).append(one.key)
    notes = [
        f"{len(keys)} of {len(chosen)} sampled objects told nothing, such as {keys[0]}: {reason}"
        for reason, keys in broken.items()
    ]
    if sum(map(len, broken.values())) == len(chosen):
        notes.append("documents, tokens and price are guesses: no sample could be read")
    return tuple(notes)
