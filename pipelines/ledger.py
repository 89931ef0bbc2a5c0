"""The token ledger: what was embedded, and what was lost on the way, by document type and by source. Nothing is lost in
silence, and every token of the inputs is accounted for. Knows no limits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from threading import Lock
from typing import Any

_WORST = 20
_TYPES = 50  # a field that is another one for each document is no type, and would fill every receipt

_OF_CAUSE = {"empty_text": "empty", "blank_text": "whitespace", "encoding": "not_text", "not_text": "not_text"}
TRUNCATED = "truncated_tokens"
REJECTED = "rejected"
BY_SOURCE = (TRUNCATED, REJECTED, "empty", "whitespace", "not_text", "zero_vectors", "nan_vectors")
"""What is counted by source, too: tokens of the first, documents or chunks of the others."""


@dataclass
class Counts:
    """``tokens`` counts inputs before truncation, special tokens included. Of them ``truncated_tokens`` were cut off by
    the model's limit, ``rejected_tokens`` were those of chunks that got no vector, and ``reused_tokens`` those whose
    vectors an earlier run had (none, as long as nothing is carried over). ``empty``, ``whitespace`` and ``not_text`` are
    documents, ``zero_vectors`` and ``nan_vectors`` (infinity, too) chunks; ``rejected`` are both, of any cause."""

    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    truncated_chunks: int = 0
    truncated_tokens: int = 0
    reused_tokens: int = 0
    rejected_tokens: int = 0
    empty: int = 0
    whitespace: int = 0
    not_text: int = 0
    zero_vectors: int = 0
    nan_vectors: int = 0
    rejected: int = 0

    @property
    def embedded_tokens(self) -> int:
        """Tokens that are in a vector made by this run."""
        return self.tokens - self.truncated_tokens - self.rejected_tokens - self.reused_tokens

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "embedded_tokens": self.embedded_tokens}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Counts:
        """What an older receipt does not tell counts as none."""
        return cls(**{name: value.get(name, 0) for name in _NAMES})


_NAMES = tuple(each.name for each in fields(Counts))


@dataclass
class Ledger:
    """Counts of one partition. Reading, splitting and embedding count in threads of their own."""

    by_type: defaultdict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    by_source: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    lengths: Counter[int] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def total(self) -> Counts:
        return _sum(self.by_type.values())

    def document(self, doc_type: str | None) -> None:
        with self._lock:
            self._of(doc_type).documents += 1

    def chunk(self, source: str, doc_type: str | None, tokens: int, *, max_tokens: int) -> None:
        """One input of ``source`` (a relative key), which loses to the model's limit what it has beyond it."""
        lost = max(0, tokens - max_tokens)
        with self._lock:
            counts = self._of(doc_type)
            counts.chunks += 1
            counts.tokens += tokens
            self.lengths[length_bucket(tokens)] += 1
            if lost:
                counts.truncated_chunks += 1
                counts.truncated_tokens += lost
                self.by_source[TRUNCATED][source] += lost

    def reject(self, cause: str, source: str, doc_type: str | None) -> None:
        """One record or chunk became no row; ``cause`` is a word of pipelines.rejects."""
        self._lose(REJECTED, source, doc_type)
        if name := _OF_CAUSE.get(cause):
            self._lose(name, source, doc_type)

    def no_vector(self, doc_type: str | None, tokens: int) -> None:
        """A chunk that was counted got none; ``tokens`` of it are within the model's limit."""
        with self._lock:
            self._of(doc_type).rejected_tokens += tokens

    def bad_vector(self, source: str, doc_type: str | None, *, zero: bool) -> None:
        self._lose("zero_vectors" if zero else "nan_vectors", source, doc_type)

    def to_json(self) -> dict[str, Any]:
        return _json(self.by_type, self.by_source, self.lengths, Counts())

    def _of(self, doc_type: str | None) -> Counts:
        return self.by_type[doc_type or ""]

    def _lose(self, name: str, source: str, doc_type: str | None) -> None:
        with self._lock:
            counts = self._of(doc_type)
            setattr(counts, name, getattr(counts, name) + 1)
            self.by_source[name][source] += 1


def length_bucket(tokens: int) -> int:
    """The upper bound, itself included, of the bucket that a length falls into: four to each power of two, so that
    usual limits of models (256, 384, 512, 8192) are bounds."""
    if tokens <= 4:
        return max(1, tokens)
    step = 1 << (tokens - 1).bit_length() - 3
    return -(-tokens // step) * step


def total(ledgers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of partitions' ledgers, as ``to_json`` gave them, in the same form. The worst sources of each are merged,
    so that a source in several partitions has lost at least what is said of it."""
    by_type: defaultdict[str, Counts] = defaultdict(Counts)
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    lengths: Counter[int] = Counter()
    others = Counts()
    for ledger in ledgers:
        # An older receipt does not tell its types.
        others = _sum([others, Counts.of_json(ledger.get("other_types", {}) if "by_type" in ledger else ledger)])
        for name, value in ledger.get("by_type", {}).items():
            by_type[name] = _sum([by_type[name], Counts.of_json(value)])
        by_source[TRUNCATED].update(ledger["truncated_by_source"])
        for name, sources in ledger.get("lost_by_source", {}).items():
            by_source[name].update(sources)
        lengths.update({int(bound): count for bound, count in ledger.get("lengths", {}).items()})
    return _json(by_type, by_source, lengths, others)


def _json(by_type: Mapping[str, Counts], by_source: Mapping[str, Counter[str]], lengths: Counter[int],
          others: Counts) -> dict[str, Any]:  # fmt: skip
    """``by_type`` has the types of the most tokens, and ``other_types`` the sum of the rest where there is one;
    ``lengths`` is chunks by the upper bound of their tokens."""
    ranked = sorted(by_type, key=lambda name: (-by_type[name].tokens, name))
    rest = _sum([others, *(by_type[name] for name in ranked[_TYPES:])])
    value: dict[str, Any] = {
        **_sum([others, *by_type.values()]).to_json(),
        "lengths": {str(bound): lengths[bound] for bound in sorted(lengths)},
        "truncated_by_source": worst(by_source.get(TRUNCATED, {})),
        "lost_by_source": {name: worst(by_source[name]) for name in BY_SOURCE if name != TRUNCATED and by_source.get(name)},
        "by_type": {name: by_type[name].to_json() for name in sorted(ranked[:_TYPES])},
    }  # fmt: skip
    return value if rest == Counts() else {**value, "other_types": rest.to_json()}


def worst(sources: Mapping[str, int]) -> dict[str, int]:
    """Those that lost most, most first."""
    return dict(sorted(sources.items(), key=lambda item: (-item[1], item[0]))[:_WORST])


def _sum(counts: Iterable[Counts]) -> Counts:
    found = Counts()
    for each in counts:
        for name in _NAMES:
            setattr(found, name, getattr(found, name) + getattr(each, name))
    return found
