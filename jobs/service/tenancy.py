"""Which rows a caller may see."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.service.auth import Caller
from pipelines.targets.filters import Filter, equals
from pipelines.targets.target import Hit


def filters_for(caller: Caller, asked: Sequence[Filter]) -> tuple[Filter, ...]:
    return tuple(asked) if caller.tenant is None else (*asked, equals("tenant", caller.tenant))


def own(hits: Sequence[Hit], caller: Caller) -> None:
    assert caller.tenant is None or all(hit.tenant == caller.tenant for hit in hits)
