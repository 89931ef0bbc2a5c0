"""From the frozen listing to partitions: by key, then by size, cut where the content says. Reads no store.

Knows objects by name and size alone. What it needs from inside one (row groups) is asked of the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from pipelines.partition import Partition, Slice, partition_id
from pipelines.plan.cuts import cut, key_hash
from pipelines.plan.key import group_by_key
from pipelines.plan.listing import Listing
from pipelines.plan.ranges import Range, byte_ranges, row_group_ranges, why_uncuttable
from pipelines.plan.settings import PartitionSettings
from pipelines.read.decompress import compression_of
from pipelines.read.reader import SourceSettings
from pipelines.store import Object

TokensPerByte = float | Mapping[str, float]
"""Tokens in one stored byte; by compression (``""``, ``gzip``, ``zstd``) when a mapping."""

RowGroups = Callable[[Object], Sequence[int]]
"""Bytes of each row group of a Parquet object; empty when its footer cannot be read."""

_BIG = 2  # targets; what the cuts allow a partition of several objects

_LEAST_RATIO = 2**-20  # a sample of empty texts holds no token at all


class Partitioning(NamedTuple):
    """``tokens[i]`` is the estimate for ``partitions[i]``. ``notes`` says what the user must know."""

    partitions: list[Partition]
    tokens: list[int]
    notes: list[str]


def plan_partitions(listing: Listing, settings: PartitionSettings, source: SourceSettings,
                    tokens_per_byte: TokensPerByte, row_groups: RowGroups | None = None) -> Partitioning:  # fmt: skip
    """Cover every byte of the listing once. A pure function of its arguments.

    Args:
        tokens_per_byte: rounded here to half powers of two, so that an estimate that moves a little between
            two plans moves no cut. To keep the cuts of an earlier plan for certain, pass its figure.
        row_groups: asked for big Parquet objects only; without it they are not cut.

    Raises:
        SettingsError: ``partition.path`` and ``by`` do not fit the objects.
    """
    groups = group_by_key(listing, settings)
    objects = list(listing.objects())
    ratios = _rounded(tokens_per_byte)
    pieces = _Pieces(objects, settings, source, ratios, row_groups)
    unnumbered = [(key, *piece) for key, rows in groups.items() for piece in pieces.of(rows)]
    unnumbered.sort(key=lambda row: (row[1][0].key, row[1][0].start))
    partitions = [
        Partition(partition_id(key, slices), number, key, slices) for number, (key, slices, _) in enumerate(unnumbered)
    ]
    return Partitioning(partitions, [tokens for *_, tokens in unnumbered], pieces.notes())


def stable_ratio(measured: TokensPerByte, last: TokensPerByte | None) -> TokensPerByte:
    """The figure of the last plan as long as the measured one is within a factor of two of it.

    Cuts depend on the figure, so a plan that carries parts over keeps it until it is plainly wrong.
    """
    if last is None:
        return measured
    new, old = _by_compression(measured), _by_compression(last)
    close = all(old.get(name, 0) / 2 < ratio < old.get(name, 0) * 2 for name, ratio in new.items())
    return last if close else measured


@dataclass
class _Pieces:
    """Cuts the rows of one key into slices. Remembers what could not be cut."""

    objects: list[Object]
    settings: PartitionSettings
    source: SourceSettings
    ratios: Mapping[str, float]
    row_groups: RowGroups | None

    def __post_init__(self) -> None:
        self._uncut: dict[str, list[Object]] = {}
        # An object costs a request whatever its size: at twice the target, max_objects of them are a partition.
        self._least_weight = math.ceil(_BIG * self.settings.target_tokens / self.settings.max_objects)

    def of(self, rows: Sequence[int]) -> list[tuple[tuple[Slice, ...], int]]:
        """Slices and tokens of each partition. A big object stands alone, in one or more of them."""
        found: list[tuple[tuple[Slice, ...], int]] = []
        for big, run in groupby((self.objects[row] for row in rows), key=self._is_big):
            if big:
                found += [piece for one in run for piece in self._ranges(one)]
            else:
                found += self._runs(list(run))
        return found

    def notes(self) -> list[str]:
        target = self.settings.target_tokens
        return [
            f"{len(uncut):,} objects of over {_BIG * target:,} tokens cannot be cut, the largest "
            f"{max(uncut, key=lambda one: one.size).key} ({max(one.size for one in uncut) / 1e6:,.0f} MB): {reason}"
            for reason, uncut in sorted(self._uncut.items())
        ]

    def _tokens(self, one: Object) -> int:
        return math.ceil(one.size * self._ratio(one))

    def _ratio(self, one: Object) -> float:
        return self.ratios.get(compression_of(one.key) or "") or self.ratios[""]

    def _is_big(self, one: Object) -> bool:
        return self._tokens(one) > _BIG * self.settings.target_tokens

    def _runs(self, run: list[Object]) -> list[tuple[tuple[Slice, ...], int]]:
        tokens = [self._tokens(one) for one in run]
        weights = [max(count, self._least_weight) for count in tokens]
        return [
            (tuple(_whole(one) for one in run[start:end]), sum(tokens[start:end]))
            for start, end in cut([key_hash(one.key) for one in run], weights, self.settings.target_tokens)
        ]

    def _ranges(self, one: Object) -> list[tuple[tuple[Slice, ...], int]]:
        target_bytes = self.settings.target_tokens / self._ratio(one)
        ranges: list[Range] = [(0, None)]
        sizes: Sequence[int] = []
        reason = why_uncuttable(one.key, self.source)
        if reason is None and self.source.format == "parquet":
            sizes = self.row_groups(one) if self.row_groups else []
            reason = None if len(sizes) > 1 else "they have one row group, or their footer cannot be read"
            if reason is None:
                ranges = row_group_ranges(sizes, target_bytes * sum(sizes) / one.size)
        elif reason is None:
            ranges = byte_ranges(one.size, target_bytes)
        if reason is not None:
            self._uncut.setdefault(reason, []).append(one)
        whole = sum(sizes) or one.size
        return [
            ((Slice(one.key, one.etag, one.size, start, end, one.version),), self._share(one, sizes, start, end, whole))
            for start, end in ranges
        ]

    def _share(self, one: Object, sizes: Sequence[int], start: int, end: int | None, whole: int) -> int:
        held = sum(sizes[start:end]) if sizes else (end or one.size) - start
        return math.ceil(self._tokens(one) * held / whole)


def _whole(one: Object) -> Slice:
    return Slice(one.key, one.etag, one.size, version=one.version)


def _by_compression(ratio: TokensPerByte) -> Mapping[str, float]:
    return ratio if isinstance(ratio, Mapping) else {"": ratio}


def _rounded(ratio: TokensPerByte) -> dict[str, float]:
    """To the nearest half power of two: 0.25, 0.354, 0.5, …"""
    return {
        name: 2 ** (round(2 * math.log2(max(value, _LEAST_RATIO))) / 2)
        for name, value in _by_compression(ratio).items()
    }
