"""Which questions are asked most, of the last few thousand; for warming. Bounded. Knows no answers."""

from __future__ import annotations

from collections import Counter, deque

from jobs.service.auth import Caller
from jobs.service.requests import SearchRequest

_LAST = 5_000

Question = tuple[Caller, SearchRequest]


class Asked:
    def __init__(self) -> None:
        self._last: deque[tuple[Caller, str]] = deque(maxlen=_LAST)
        self._questions: dict[tuple[Caller, str], SearchRequest] = {}
        self._counts: Counter[tuple[Caller, str]] = Counter()

    def add(self, question: Question) -> None:
        caller, asked = question
        key = (caller, asked.model_dump_json())
        if len(self._last) == _LAST:
            self._forget(self._last[0])
        self._last.append(key)
        self._counts[key] += 1
        self._questions.setdefault(key, asked)

    def most(self, count: int) -> list[Question]:
        """The most frequent first."""
        return [(key[0], self._questions[key]) for key, _ in self._counts.most_common(count)]

    def _forget(self, key: tuple[Caller, str]) -> None:
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key], self._questions[key]
