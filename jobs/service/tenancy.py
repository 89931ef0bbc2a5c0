"""What a caller may see: the filters of its question, and the hits of its answer. Pure; knows no index and no HTTP.

Both hold on their own: the filter keeps rows of other tenants out of the search, so that they cost no place among the k;
the check of each hit holds even where an index, a cache or a cursor is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.service.auth import Caller, Forbidden
from jobs.service.problems import Refusal
from pipelines.targets.filters import Filter, equals
from pipelines.targets.target import Hit

TENANT = "tenant"


class ForeignHits(Refusal):
    """``count`` hits of other tenants were about to be answered: a defect, of which the caller learns nothing more."""

    def __init__(self, count: int) -> None:
        super().__init__(
            "internal",
            "the answer was held back: a check of its hits failed; the service's log has more",
            reason="foreign hits",
        )
        self.count = count


def filters_for(caller: Caller, asked: Sequence[Filter]) -> tuple[Filter, ...]:
    """The filters of a question, with the caller's own tenant first.

    Raises:
        Forbidden: a caller with a tenant asks for one, be it its own: whoever sends it expects that it has an effect.
    """
    if caller.tenant is None:
        return tuple(asked)
    if any(each.field == TENANT for each in asked):
        raise Forbidden(
            "filter by tenant is refused: the tenant comes from the token; leave it out", reason="tenant filter"
        )
    return (equals(TENANT, caller.tenant), *asked)


def own(hits: Sequence[Hit], caller: Caller) -> Sequence[Hit]:
    """The hits, each of which the caller may see. A hit without a tenant is nobody's.

    Raises:
        ForeignHits: not one is given then: where one is wrong, so may be what the others say.
    """
    if caller.tenant is None:
        return hits
    if foreign := sum(hit.tenant != caller.tenant for hit in hits):
        raise ForeignHits(foreign)
    return hits
