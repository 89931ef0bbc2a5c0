"""The alias as a compare-and-swap, also where a process dies or sleeps in between."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator

import pytest

from pipelines.errors import AliasMoved, TargetError
from pipelines.targets.filters import equals
from pipelines.targets.target import Query
from tests.fixtures.faulty_opensearch import Act, Forward, Request, faulty_opensearch
from tests.fixtures.opensearch import delete_indices
from tests.targets.opensearch_case import Case


@pytest.fixture
def case(opensearch_url: str) -> Iterator[Case]:
    made = Case(opensearch_url)
    for name in ("one", "two"):
        made.create(f"{made.corpus}-{name}")
    yield made
    delete_indices(opensearch_url, made.corpus)


def one_and_two(case: Case) -> tuple[str, str]:
    return f"{case.corpus}-one", f"{case.corpus}-two"


def test_a_first_release_that_was_decided_and_left_is_completed_by_the_same_command(case: Case) -> None:
    one, _ = one_and_two(case)
    target = case.target()
    assert case.log.append(target.id, one, after=None)
    target.move_alias(case.corpus, None, one)
    assert target.live(case.corpus) == one


def test_another_command_completes_it_and_then_says_what_is_live(case: Case) -> None:
    one, two = one_and_two(case)
    target = case.target()
    assert case.log.append(target.id, one, after=None)
    with pytest.raises(AliasMoved, match=f"decided for {one}"):
        target.move_alias(case.corpus, None, two)
    assert target.live(case.corpus) == one


def test_a_decision_for_a_generation_that_is_gone_binds_nobody(case: Case) -> None:
    one, two = one_and_two(case)
    target = case.target()
    assert case.log.append(target.id, one, after=None)
    target.drop(one)
    target.move_alias(case.corpus, None, two)
    assert target.live(case.corpus) == two


def test_a_process_that_slept_before_adding_the_alias_cannot_add_it_behind_a_later_release(case: Case) -> None:
    one, two = one_and_two(case)
    awake = case.target()

    def others_release_meanwhile(request: Request) -> Act | None:
        if request.path == "/_aliases" and request.method == "POST":
            awake.move_alias(case.corpus, None, one)
            awake.move_alias(case.corpus, one, two)
        return None

    with faulty_opensearch(case.url, others_release_meanwhile) as url, pytest.raises(AliasMoved, match=two):
        case.target(url=url).move_alias(case.corpus, None, one)
    assert awake.live(case.corpus) == two


@pytest.mark.parametrize("released", [False, True])
def test_a_swap_whose_answer_is_lost_is_read_back(case: Case, released: bool) -> None:
    one, two = one_and_two(case)
    if released:
        case.target().move_alias(case.corpus, None, two)

    def lose_the_answer(request: Request) -> Act | None:
        return Forward(then="lose") if request.path == "/_aliases" else None

    with faulty_opensearch(case.url, lose_the_answer) as url:
        case.target(url=url).move_alias(case.corpus, two if released else None, one)
    assert case.target().live(case.corpus) == one


def test_a_name_taken_by_an_index_is_explained_with_its_mend(case: Case) -> None:
    one, _ = one_and_two(case)
    case.send("PUT", f"/{case.corpus}/_doc/1", {"text": "somebody wrote before the first release"})
    for refused in (lambda: case.target().live(case.corpus), lambda: case.target().move_alias(case.corpus, None, one)):
        with pytest.raises(TargetError, match=rf"DELETE /{case.corpus}.*auto_create_index"):
            refused()


def test_an_alias_on_two_indices_is_refused(case: Case) -> None:
    for name in one_and_two(case):
        case.send("POST", "/_aliases", {"actions": [{"add": {"index": name, "alias": case.corpus}}]})
    with pytest.raises(TargetError, match="names 2 indices"):
        case.target().live(case.corpus)


def test_an_alias_on_an_index_that_is_not_ours_is_refused(case: Case) -> None:
    case.send("PUT", f"/{case.corpus}-stranger")
    case.send("POST", "/_aliases", {"actions": [{"add": {"index": f"{case.corpus}-stranger", "alias": case.corpus}}]})
    with pytest.raises(TargetError, match="Backhaul did not make"):
        case.target().live(case.corpus)


def test_an_alias_removed_by_hand_is_put_back_by_the_next_release(case: Case) -> None:
    one, _ = one_and_two(case)
    target = case.target()
    target.move_alias(case.corpus, None, one)
    case.send("POST", "/_aliases", {"actions": [{"remove": {"index": one, "alias": case.corpus}}]})
    target.move_alias(case.corpus, None, one)
    assert target.live(case.corpus) == one


def test_the_token_of_a_first_release_is_gone_after_it(case: Case) -> None:
    one, _ = one_and_two(case)
    case.target().move_alias(case.corpus, None, one)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        case.send("GET", f"/_alias/{one}.unreleased")


def test_a_query_asks_what_is_live_and_not_again_what_that_generation_is(case: Case) -> None:
    one, _ = one_and_two(case)
    asked: list[str] = []

    def note(request: Request) -> Act | None:
        asked.append(request.path.partition("?")[0])
        return None

    case.target().move_alias(case.corpus, None, one)
    with faulty_opensearch(case.url, note) as url:
        target = case.target(url=url)
        for _ in range(2):
            asked.clear()
            name = target.live(case.corpus)
            assert name is not None
            assert target.meta(name) == case.meta
            target.search(name, [Query(text="row", filters=(equals("metadata.lang", "de"),))])
    assert asked == [f"/{case.corpus}/_mapping", f"/{one}/_msearch"]
