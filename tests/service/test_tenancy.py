"""What a caller may see: the tenant is added, never asked for, and checked on every hit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.service.auth import Caller, Forbidden
from jobs.service.tenancy import ForeignHits, filters_for, own
from pipelines.targets.filters import Filter, equals
from pipelines.targets.target import Hit

ACME, EVERYTHING = Caller("crawler", "acme"), Caller("crawler", None)
FAQ, SPRING = equals("doc_type", "faq"), Filter("date", at_least="2024-03", at_most="2024-05")


def hit(tenant: str | None) -> Hit:
    return Hit("i", "d", 1.0, "text", tenant=tenant)


def test_the_callers_tenant_is_a_filter_of_every_question() -> None:
    assert filters_for(ACME, []) == (Filter("tenant", ("acme",)),)
    assert filters_for(ACME, [FAQ, SPRING]) == (Filter("tenant", ("acme",)), FAQ, SPRING)


def test_a_caller_without_a_tenant_filters_as_it_likes() -> None:
    assert filters_for(EVERYTHING, []) == ()
    assert filters_for(EVERYTHING, [equals("tenant", "blue"), FAQ]) == (equals("tenant", "blue"), FAQ)


@pytest.mark.parametrize("asked", [equals("tenant", "blue"), equals("tenant", "acme"), Filter("tenant", ("acme", "blue")),
                                   Filter("tenant", at_least="a"), Filter("tenant", at_most="b"), Filter("tenant")])  # fmt: skip
@pytest.mark.parametrize("others", [[], [FAQ]])
def test_a_caller_with_a_tenant_may_name_none(asked: Filter, others: list[Filter]) -> None:
    with pytest.raises(Forbidden, match="the tenant comes from the token") as caught:
        filters_for(ACME, [*others, asked])
    assert (caught.value.status, caught.value.code, caught.value.reason) == (403, "forbidden", "tenant filter")
    with pytest.raises(Forbidden):
        filters_for(ACME, [asked, *others])


def test_metadata_of_that_name_is_no_tenant() -> None:
    asked = equals("metadata.tenant", "blue")
    assert filters_for(ACME, [asked]) == (equals("tenant", "acme"), asked)


def test_an_empty_tenant_is_one() -> None:
    """Nobody gets one from a token; here it must not mean every tenant."""
    nobody = Caller("crawler", "")
    assert filters_for(nobody, []) == (equals("tenant", ""),)
    with pytest.raises(ForeignHits):
        own([hit("acme")], nobody)


def test_own_hits_pass_in_their_order() -> None:
    hits = [Hit(str(n), "d", 1.0, "text", tenant="acme") for n in range(3)]
    assert own(hits, ACME) == hits
    assert own([], ACME) == []
    assert own(others := [hit("acme"), hit(None), hit("blue")], EVERYTHING) == others


@pytest.mark.parametrize("foreign", ["blue", "Acme", "acme ", "acm", "acmee", "", None])
def test_one_foreign_hit_holds_the_whole_answer_back(foreign: str | None) -> None:
    for hits in ([hit(foreign)], [hit("acme"), hit(foreign)], [hit(foreign), hit("acme")]):
        with pytest.raises(ForeignHits) as caught:
            own(hits, ACME)
        assert caught.value.count == 1
        assert (caught.value.status, caught.value.code, caught.value.reason) == (500, "internal", "foreign hits")
        assert str(caught.value) == "the answer was held back: a check of its hits failed; the service's log has more"


def test_foreign_hits_are_counted() -> None:
    with pytest.raises(ForeignHits) as caught:
        own([hit("blue"), hit("acme"), hit(None), hit("cobalt")], ACME)
    assert caught.value.count == 3


tenants = st.sampled_from(["acme", "blue", "", None])


@given(tenants, st.lists(tenants, max_size=6))
def test_what_passes_is_the_callers_or_the_caller_has_no_tenant(tenant: str | None, found: list[str | None]) -> None:
    hits, caller = [hit(each) for each in found], Caller("crawler", tenant)
    foreign = 0 if tenant is None else sum(each != tenant for each in found)
    if not foreign:
        assert own(hits, caller) == hits
        return
    with pytest.raises(ForeignHits) as caught:
        own(hits, caller)
    assert caught.value.count == foreign
