"""The search page in a real browser, over the real service.

What the service would say in trouble is said to the browser in its stead, in the shapes of ``requests.py``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from jobs.service.problems import Refusal
from jobs.service.requests import GenerationAnswer, GenerationsAnswer
from tests.e2e.command import backhaul_here
from tests.service.browser import CHROMIUM, Visit, chromium
from tests.service.page_corpus import ASTRAL, ATTACK, TENANTS, page_conf
from tests.service.served import Served, served

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}; `make chromium` installs it")

Visits = Callable[..., Visit]
TOKENS = (96, 48)  # of a chunk, in one generation and the next
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generations of one corpus; the one of smaller chunks is live."""
    conf = page_conf(tmp_path_factory.mktemp("page"))
    for tokens in TOKENS:
        done = backhaul_here("run", conf, "--set", f"split.max_tokens={tokens}")
        assert done.code == 0, done.err
    return conf


@dataclass(frozen=True)
class Site:
    """A service that answers those who have the key."""

    served: Served
    key: str

    @property
    def url(self) -> str:
        return self.served.url

    def search(self, **asked: Any) -> dict[str, Any]:
        return self.served.search(token=self.key, **asked)

    def get(self, path: str, **parameters: str) -> httpx.Response:
        with self.served.client(self.key) as client:
            return client.get(path, params=parameters)


@pytest.fixture(scope="module")
def site(conf: Path) -> Iterator[Site]:
    keys = conf.with_name("keys.jsonl")
    sets = [
        word
        for key in ("method=api_keys", f"api_keys={keys}", "tenantless=true")
        for word in ("--set", f"serve.auth.{key}")
    ]
    key = backhaul_here("key", conf, "--subject", "reader", *sets, "--json").json["key"]
    with served(conf, *sets) as found:
        yield Site(found, key)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visits(browser: Browser, site: Site) -> Iterator[Visits]:
    """Opens pages. None of them may have met a dialog, an error, a foreign address or a refusal of its own policy."""
    opened: list[Visit] = []

    def visit(address: str | None = "/", token: str | None = site.key, **options: Any) -> Visit:
        opened.append(Visit(browser, site.url, token, **options))
        return opened[-1] if address is None else opened[-1].open(address)

    yield visit
    troubles = [trouble for visit in opened for trouble in visit.troubles]
    for each in opened:
        each.__exit__()
    assert troubles == []


def generations(site: Site) -> tuple[str, str]:
    """The live one, and the other."""
    told = site.get("/v1/generations").json()
    (other,) = {each["name"] for each in told["generations"]} - {told["live"]}
    return told["live"], other


def until(found: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def refuse(visit: Visit, refusal: Refusal, path: str = "/v1/search", times: int = 100) -> list[str]:
    """The next ``times`` questions get this instead of the service's answer. Returns what they asked."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data or route.request.url)
        route.fulfill(status=refusal.status, headers=refusal.headers(), body=refusal.body())

    visit.page.route(f"**{path}*", answer, times=times)
    return asked


def tell(visit: Visit, **changed: Any) -> None:
    """What the page is told of generations, instead of what there is."""
    told = {
        "corpus": "railways",
        "live": None,
        "generations": [],
        "filters": {},
        "modes": ["hybrid", "lexical", "vector"],
        "limits": {},
        "tenant": None,
    } | changed
    body = GenerationsAnswer.model_validate(told).model_dump_json()
    visit.page.route("**/v1/generations", lambda route: route.fulfill(body=body, content_type="application/json"))


def test_a_search_shows_the_services_hits_in_its_order(visits: Visits, site: Site) -> None:
    visit = visits().search("wagons in the yard")
    assert visit.hits() == [hit["id"] for hit in site.search(query="wagons in the yard")["hits"]]
    expect(visit.page.get_by_role("status").filter(has_text="First 10 hits in")).to_be_visible()
    live = site.search(query="wagons")["generation"]
    expect(visit.page.locator("#generation")).to_contain_text(
        re.compile(re.escape(live) + r".*live since less than a minute.*chunks")
    )


def test_a_hit_shows_what_the_service_said_of_it(visits: Visits, site: Site) -> None:
    hit = site.search(query="wagons", filter={"document_id": "doc-04"})["hits"][0]
    card = visits("/?q=wagons&is.document_id=doc-04").page.locator(".hit").first
    for said in (hit["title"], hit["document_id"], hit["doc_type"], hit["date"], hit["metadata"]["source"]):
        expect(card).to_contain_text(said)
    expect(card.get_by_role("link", name=hit["uri"])).to_have_attribute("href", hit["uri"])


def test_marks_are_counted_in_characters_as_python_counts_them(visits: Visits, site: Site) -> None:
    (hit,) = site.search(query="wagons", mode="lexical", filter={"document_id": "astral"})["hits"]
    assert hit["text"] == ASTRAL
    marks = visits("/?q=wagons&mode=lexical&is.document_id=astral").page.locator(".hit mark").all_text_contents()
    assert marks == [ASTRAL[start:end] for start, end in hit["highlights"]] == ["wagon", "wagons", "wagons", "wagon"]


def test_a_long_text_is_cut_about_its_marks_and_whole_on_demand(visits: Visits, site: Site) -> None:
    visit = visits(f"/?q=quarry&mode=lexical&generation={generations(site)[1]}")
    card = visit.page.locator(".hit:has(.text button)").first
    cut = card.locator(".text").text_content() or ""
    assert "quarry" in cut
    card.get_by_role("button", name="Whole chunk").click()
    assert len(card.locator(".text").text_content() or "") > len(cut)
    expect(card.get_by_role("button", name="Excerpt")).to_be_visible()


def test_modes_counts_and_switches_ask_at_once(visits: Visits, site: Site) -> None:
    visit = visits().search("steam crane")
    page = visit.page
    for act, asked in [
        (lambda: page.get_by_role("radio", name="Lexical").check(force=True), {"mode": "lexical"}),
        (lambda: page.get_by_role("checkbox", name="One per document").check(), {"mode": "lexical", "group_by_document": True}),
        (lambda: (page.get_by_role("spinbutton", name="Hits").fill("4"), page.keyboard.press("Tab")),
         {"mode": "lexical", "group_by_document": True, "k": 4}),
        (lambda: page.get_by_role("checkbox", name="Exact").check(),
         {"mode": "lexical", "group_by_document": True, "k": 4, "exact": True}),
    ]:  # fmt: skip
        with page.expect_response("**/v1/search"):
            act()
        visit.settled()
        assert visit.hits() == [hit["id"] for hit in site.search(query="steam crane", **asked)["hits"]]  # type: ignore[arg-type]
    assert len(visit.hits()) == 4


def test_explain_shows_rank_and_score_by_source(visits: Visits, site: Site) -> None:
    visit = visits().search("night train")
    with visit.page.expect_response("**/v1/search"):
        visit.page.get_by_role("checkbox", name="Explain").check()
    hit = site.search(query="night train", explain=True)["hits"][0]
    table = visit.settled().page.locator(".hit").first.get_by_role("table")
    for source, place in hit["sources"].items():
        expect(table.get_by_role("row", name=re.compile(source, re.IGNORECASE))).to_contain_text(f"#{place['rank']}")


def test_more_hits_follow_the_first_without_a_double(visits: Visits, site: Site) -> None:
    visit = visits("/?q=signal&k=5")
    for _ in range(2):
        with visit.page.expect_response("**/v1/search"):
            visit.page.get_by_role("button", name="More hits").click()
        visit.settled()
    assert visit.hits() == [hit["id"] for hit in site.search(query="signal", k=15)["hits"]]
    assert visit.focus() == visit.hits()[10]


def test_filters_are_added_and_removed_as_chips(visits: Visits, site: Site) -> None:
    visit = visits().search("brake vans")
    page, form = visit.page, visit.page.get_by_role("form", name="Add a filter")

    def add(field: str, **values: str) -> None:
        page.get_by_role("button", name="Add filter").click()
        form.get_by_label("Field").select_option(label=field)
        for label, value in values.items():
            form.get_by_label(label).fill(value)
        with page.expect_response("**/v1/search"):
            form.get_by_role("button", name="Add").click()
        visit.settled()

    add("Doc type", **{"is": "faq"})
    add("Doc type", **{"is": "note"})
    add("Date", **{"from": "2024-03-01", "to": "2025-12-31"})
    asked = {"doc_type": ["faq", "note"], "date": {"from": "2024-03-01", "to": "2025-12-31"}}
    assert visit.hits() == [hit["id"] for hit in site.search(query="brake vans", filter=asked)["hits"]]
    chips = page.get_by_role("list", name="Filters in use").get_by_role("listitem")
    assert chips.locator("> span").all_inner_texts() == [
        "doc type faq",
        "doc type note",
        "date 2024-03-01 to 2025-12-31",
    ]
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="Remove filter date").click()
    visit.settled()
    assert visit.hits() == [
        hit["id"] for hit in site.search(query="brake vans", filter={"doc_type": ["faq", "note"]})["hits"]
    ]


def test_what_stands_in_a_hit_narrows_the_search(visits: Visits, site: Site) -> None:
    visit = visits("/?q=crew&is.doc_type=guide")
    with visit.page.expect_response("**/v1/search") as answered:
        visit.page.get_by_role("button", name="Only hits with doc type guide").first.click()
    assert answered.value.request.post_data_json["filter"] == {"doc_type": ["guide"]}


def test_fields_with_types_are_asked_by_their_types(visits: Visits) -> None:
    visit = visits(None)
    tell(
        visit, live="railways-1", filters={"metadata.stars": "number", "metadata.free": "boolean", "tenant": "keyword"}
    )
    asked = refuse(visit, Refusal("bad_request", "asked enough"))
    page = visit.open("/?q=x").page
    form = page.get_by_role("form", name="Add a filter")
    page.get_by_role("button", name="Add filter").click()
    form.get_by_label("Field").select_option(label="Stars")
    form.get_by_role("button", name="Add").click()
    assert (
        page.evaluate("document.querySelector('#filter-from').validationMessage")
        == "Give a lower bound, an upper bound, or both"
    )
    form.get_by_label("from").fill("4.5")
    form.get_by_role("button", name="Add").click()
    page.get_by_role("button", name="Add filter").click()
    form.get_by_label("Field").select_option(label="Free")
    form.get_by_label("is").select_option(label="no")
    form.get_by_role("button", name="Add").click()
    expect(page.get_by_text("asked enough")).to_be_visible()
    assert '"filter":{"metadata.stars":{"from":"4.5"},"metadata.free":[false]}' in asked[-1]


def test_a_document_is_read_whole_with_the_hits_chunk_in_view(visits: Visits, site: Site) -> None:
    visit = visits("/?q=stone+quarry&is.document_id=doc-07")
    page = visit.page
    chunk = visit.hits()[0]
    page.locator(".hit .title").first.click()
    dialog = page.get_by_role("dialog")
    page.wait_for_selector(".chunk.found")
    document = site.get("/v1/documents", document_id="doc-07").json()
    assert dialog.locator(".chunk .text").all_text_contents() == [each["text"] for each in document["chunks"]]
    found = dialog.locator(".chunk[aria-current=true]")
    expect(found).to_have_count(1)
    expect(found).to_be_in_viewport()
    ordinal = next(each["ordinal"] for each in document["chunks"] if each["id"] == chunk)
    expect(found).to_contain_text(f"Chunk {ordinal + 1}")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert visit.focus() == chunk
    expect(page).to_have_url(re.compile("is.document_id=doc-07$"))


def test_a_document_is_that_of_the_hits_tenant(visits: Visits) -> None:
    page = visits("/?q=freight+accounts+ledger&mode=lexical").page
    for tenant in TENANTS:
        page.get_by_role("link", name=f"Ledger of the {tenant}").click()
        page.wait_for_selector(".chunk.found")
        expect(page.get_by_role("dialog").locator(".chunk .text")).to_have_text([f"Freight accounts of the {tenant}."])
        page.reload()
        page.wait_for_selector(".chunk.found")
        expect(page.get_by_role("dialog").locator(".chunk .text")).to_have_text([f"Freight accounts of the {tenant}."])
        page.keyboard.press("Escape")


def test_an_address_opened_anew_shows_the_same(visits: Visits, site: Site) -> None:
    first = visits("/?q=river+bridge&k=6&group=1&is.doc_type=guide&from.date=2024-02")
    page = first.page
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("[aria-label='Side B'] .hit")
    with page.expect_response("**/v1/search"):
        page.get_by_label("Mode of A").select_option("Vector")
    first.settled()
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="More hits").click()
    first.settled()
    page.locator("[aria-label='Side B'] .title").nth(1).click()
    page.wait_for_selector(".chunk.found")
    again = visits(page.url.removeprefix(site.url))
    again.page.wait_for_selector(".chunk.found")
    for side in "AB":
        assert len(first.hits(side)) == 12
        assert again.hits(side) == first.hits(side)
    assert again.page.locator(".chunk.found").text_content() == page.locator(".chunk.found").text_content()


def test_back_and_forward_follow_what_was_asked(visits: Visits) -> None:
    visit = visits().search("signal")
    page, first = visit.page, visit.hits()
    visit.search("coal stage")
    second = visit.hits()
    page.locator(".title").first.click()
    page.wait_for_selector(".chunk.found")
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert visit.hits() == second
    with page.expect_response("**/v1/search"):
        page.go_back()
    assert visit.settled().hits() == first
    expect(page.get_by_role("searchbox")).to_have_value("signal")
    with page.expect_response("**/v1/search"):
        page.go_forward()
    assert visit.settled().hits() == second


def test_two_modes_stand_side_by_side_with_what_both_found_marked(visits: Visits, site: Site) -> None:
    visit = visits("/?q=engine+crew&with=lexical")
    a, b = (
        [hit["id"] for hit in site.search(query="engine crew", mode=mode)["hits"]] for mode in ("hybrid", "lexical")
    )
    assert (visit.hits("A"), visit.hits("B")) == (a, b)
    both = [id_ for id_ in a if id_ in b]
    assert 0 < len(both) < len(a)
    standing = visit.page.locator("[aria-label='Side A'] .standing").all_inner_texts()
    assert [
        f"B has it at #{b.index(id_) + 1} " in said if id_ in b else "alone" in said
        for id_, said in zip(a, standing, strict=True)
    ]
    for id_, said in zip(a, standing, strict=True):
        moved = a.index(id_) - b.index(id_) if id_ in b else None
        assert ("In both" in said) is (moved is not None)
        if moved:
            assert (
                f"{abs(moved)} {'place' if abs(moved) == 1 else 'places'} {'higher' if moved > 0 else 'lower'} in B"
                in said
            )
    expect(visit.page.locator("#status")).to_contain_text(f"{len(both)} hits in both")


def test_two_generations_stand_side_by_side(visits: Visits, site: Site) -> None:
    older = generations(site)[1]
    visit = visits("/?q=axle&with=hybrid")
    with visit.page.expect_response("**/v1/search"):
        visit.page.get_by_label("Generation of B").select_option(value=older)
    visit.settled()
    expect(
        visit.page.locator(
            "[aria-label='Side B'] .standing", has_text="Chunk in B alone · A has another of its document"
        ).first
    ).to_be_visible()
    assert f"with_generation={older}" in visit.page.url


def test_everything_is_done_with_the_keyboard(visits: Visits) -> None:
    visit = visits("/?q=wagon")
    page, hits = visit.page, visit.hits()
    keys = page.keyboard
    keys.press("/")
    assert visit.focus() == "query"
    visit.search("wagon yard")
    hits = visit.hits()
    keys.press("ArrowDown")
    assert visit.focus() == hits[0]
    keys.press("j")
    keys.press("ArrowDown")
    keys.press("k")
    assert visit.focus() == hits[1]
    for opens in ("o", "Enter"):
        keys.press(opens)
        page.wait_for_selector(".chunk.found")
        keys.press("Escape")
        page.wait_for_selector("#document", state="hidden")
        assert visit.focus() == hits[1]
    keys.press("c")
    page.wait_for_selector("[aria-label='Side B'] .hit")
    keys.press("j")
    keys.press("l")
    assert visit.focus() in visit.hits("B")
    keys.press("h")
    assert visit.focus() in visit.hits("A")
    keys.press("c")
    page.wait_for_selector(".columns", state="detached")
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.get_by_label("Keys of one letter").uncheck()
    keys.press("Escape")
    keys.press("c")
    expect(page.get_by_role("button", name="Compare")).to_have_attribute("aria-pressed", "false")


def test_tab_reaches_every_control(visits: Visits) -> None:
    visit = visits("/?q=wagon&k=2&is.doc_type=faq")
    seen: list[str] = []
    visit.page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        seen.append(visit.focus())
    wanted = {
        "skip",
        "keys-button",
        "query",
        "k",
        "pinned",
        "exact",
        "group",
        "explain",
        "compare",
        "filter-button",
        "more",
        *visit.hits(),
    }
    assert wanted <= set(seen)


def test_no_state_of_the_page_has_what_axe_objects_to(visits: Visits) -> None:
    visit = visits()
    page = visit.page
    found = {"introduction": visit.inaccessible()}
    visit.open("/?q=steam+engine&k=3&explain=1&with=lexical&is.doc_type=faq&from.date=2024-01")
    page.get_by_role("button", name="Add filter").click()
    page.locator("[aria-label='Side B'] .title").first.focus()
    found["comparison"] = visit.inaccessible()
    page.locator(".title").first.click()
    page.wait_for_selector(".chunk.found")
    found["document"] = visit.inaccessible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keys").click()
    found["keys"] = visit.inaccessible()
    found["hits"] = visit.open("/?q=steam+engine&k=3").inaccessible()
    found["no hits"] = visit.open("/?q=steam&mode=lexical&is.doc_type=nothing").inaccessible()
    refuse(visit, Refusal("overloaded", "the index has as many questions as it takes; ask again", retry_after_s=9))
    found["refused"] = visit.open("/?q=steam").inaccessible()
    refuse(visit, Refusal("unauthorized", "send a token"), "/v1/generations")
    found["token"] = visit.open().inaccessible()
    assert {state: said for state, said in found.items() if said} == {}


def test_the_colours_follow_the_system(visits: Visits) -> None:
    backgrounds = [
        visits(color_scheme=scheme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert backgrounds == ["rgb(251, 251, 250)", "rgb(19, 21, 24)"]


def test_a_phone_scrolls_nothing_sideways(visits: Visits) -> None:
    visit = visits(f"/?q=wagon+attacked&explain=1&k=20&with=lexical&is.doc_type={'long' * 60}&is.doc_type=faq", **PHONE)
    page = visit.page
    assert visit.overflow() == 0
    boxes = [page.get_by_label(f"Side {side}", exact=True).bounding_box() for side in "AB"]
    assert boxes[0]
    assert boxes[1]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    page.get_by_role("button", name="Options").tap()
    page.get_by_role("button", name="Add filter").tap()
    assert visit.overflow() == 0
    page.locator(".title").first.tap()
    page.wait_for_selector(".chunk.found")
    assert visit.overflow() == 0
    page.get_by_role("button", name="Close").tap()
    assert visit.open("/?q=attacked+turntable&explain=1").overflow() == 0


def test_no_text_becomes_html(visits: Visits) -> None:
    visit = visits("/?q=attacked+turntable&mode=lexical&explain=1")
    page = visit.page
    cards = page.locator(".hit")
    assert cards.count() == 4
    assert cards.locator(".title").first.text_content() == ATTACK
    assert page.locator("#results :is(script, img, b#x, [onload], [onerror])").count() == 0
    hrefs = page.eval_on_selector_all("a[href]", "links => links.map(link => link.protocol)")
    assert set(hrefs) == {"http:"}
    page.get_by_role("button", name=re.compile("^Only hits with doc type")).first.click()
    page.wait_for_selector(".chip")
    assert ATTACK in (page.locator(".chip").text_content() or "")
    page.locator(".title").first.click()
    page.wait_for_selector(".chunk.found")
    assert page.locator("dialog :is(script, img, b#x, a[href^=javascript])").count() == 0
    visit.open(
        f"/?q={ATTACK.replace('&', '%26').replace('#', '%23')}&generation=<img src=x onerror=alert(1)>&is.<b>=<img src=x onerror=alert(1)>"
    )
    assert page.locator("#results img, #chips img").count() == 0


def test_the_policy_of_the_page_lets_nothing_in_from_elsewhere(visits: Visits, site: Site) -> None:
    policy = site.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    visit = visits("/?q=wagon")
    visit.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert visit.page.evaluate("window.ran") is None
    assert [trouble.split()[0] for trouble in visit.troubles] == ["script-src-elem"]
    visit.page.evaluate("refused.length = 0")


def test_a_service_that_asks_who_you_are_is_told_and_nobody_else(visits: Visits, site: Site) -> None:
    visit = visits(None, token=None)
    tokens = list[str | None]()
    visit.page.on(
        "request", lambda request: "/v1/" in request.url and tokens.append(request.headers.get("authorization"))
    )
    page = visit.open("/?q=wagon&k=3").page
    form = page.get_by_role("form", name="This service asks who you are")
    for given in ("wrong", site.key):
        expect(form.get_by_role("alert")).to_contain_text("token")
        assert visit.focus() == "token"
        page.keyboard.type(given)
        page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(3)
    expect(form).to_be_hidden()
    assert tokens == [None, "Bearer wrong", f"Bearer {site.key}", f"Bearer {site.key}"]
    assert site.key not in page.url
    assert page.evaluate("[...Object.values(localStorage)].length + document.cookie.length") == 0
    page.reload()
    expect(page.locator(".hit")).to_have_count(3)
    page.get_by_role("button", name="Token").click()
    page.get_by_role("button", name="Forget it").click()
    expect(form.get_by_role("alert")).to_contain_text("Authorization")
    assert tokens[-1] is None


def test_a_service_that_wants_time_is_given_it(visits: Visits) -> None:
    visit = visits(None)
    visit.page.clock.install()
    asked = refuse(visit, Refusal("rate_limited", "more than 5 questions a second", retry_after_s=7), times=1)
    page = visit.open("/?q=wagon&k=3").page
    expect(page.get_by_role("alert").filter(has_text="more than 5 questions a second")).to_be_visible()
    expect(page.get_by_text("asking again in 7 seconds")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_disabled()
    page.clock.fast_forward(4_000)
    expect(page.get_by_text("asking again in 3 seconds")).to_be_visible()
    assert len(asked) == 1
    page.clock.fast_forward(4_000)
    expect(page.locator(".hit")).to_have_count(3)


def test_a_hasty_question_waits_as_long_as_the_service_asked(visits: Visits) -> None:
    visit = visits(None)
    visit.page.clock.install()
    asked = refuse(visit, Refusal("overloaded", "busy", retry_after_s=5), times=1)
    page = visit.open("/?q=wagon&k=3").page
    page.get_by_role("searchbox").fill("river")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("this is asked in 5 s")
    assert len(asked) == 1
    page.clock.fast_forward(6_000)
    expect(page.locator(".hit")).to_have_count(3)
    assert "q=river" in page.url


@pytest.mark.parametrize(
    ("refusal", "title", "button"),
    [(Refusal("bad_request", "the filter is wrong", details=[{"field": "k", "problem": "too large"}]), "The question was refused", None),
     (Refusal("forbidden", "not with this token"), "This token may not do that", "Use another token"),
     (Refusal("gone", "generation x is gone"), "no longer there", "Search again"),
     (Refusal("space_mismatch", "the index was made with another model"), "another model", "Search lexically"),
     (Refusal("unavailable", "the index does not answer"), "cannot be reached", "by itself"),
     (Refusal("deadline", "took longer than 2 s"), "It took too long", "Try again"),
     (Refusal("internal", "request 12 failed"), "Something broke", "Try again")],
    ids=lambda value: value.code if isinstance(value, Refusal) else "",
)  # fmt: skip
def test_an_error_says_what_happened_and_what_to_do(
    visits: Visits, refusal: Refusal, title: str, button: str | None
) -> None:
    visit = visits(None)
    visit.page.clock.install()
    refuse(visit, refusal, times=1)
    page = visit.open("/?q=wagon&k=3").page
    panel = page.locator(".problem")
    expect(panel.get_by_role("alert")).to_contain_text(re.compile(f"{title}.*{refusal}"))
    page.clock.fast_forward(2_000)  # more than any of them wants
    if button == "Use another token":
        panel.get_by_role("button", name=button).click()
        assert visit.focus() == "token"
    elif button == "by itself":
        expect(page.locator(".hit")).to_have_count(3)
    elif button:
        panel.get_by_role("button", name=button).click(timeout=3_000)
        expect(page.locator(".hit")).to_have_count(3)
    else:
        expect(panel).to_contain_text("k: too large")
        expect(panel.get_by_role("button")).to_have_count(0)


def test_an_answer_that_is_no_json_and_no_answer_at_all_are_told(visits: Visits) -> None:
    visit = visits("/?q=wagon&k=3")
    visit.page.route("**/v1/search", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"), times=1)
    page = visit.search("river").page
    expect(page.get_by_role("alert").filter(has_text="The answer was 502")).to_be_visible()
    page.route("**/v1/search", lambda route: route.abort(), times=1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="The service did not answer")).to_be_visible()


def test_a_corpus_without_a_live_generation_says_so_and_is_watched(visits: Visits) -> None:
    visit = visits(None)
    visit.page.clock.install()
    tell(visit)
    page = visit.open().page
    expect(page.get_by_role("heading", name="No generation is live yet")).to_be_visible()
    assert visit.inaccessible() == []
    generation = GenerationAnswer(name="railways-1", run_id="r", rows=12, live=True, released_at=None, age_s=2.0)
    tell(visit, live="railways-1", generations=[generation])
    page.clock.fast_forward(6_000)
    expect(page.locator("#generation")).to_contain_text("railways-1")
    expect(page.get_by_role("heading", name="No generation is live yet")).to_be_hidden()


def test_no_hits_are_explained_with_a_way_on(visits: Visits) -> None:
    visit = visits("/?q=wagon&is.doc_type=nothing&mode=lexical")
    page = visit.page
    expect(page.get_by_role("heading", name="No hits")).to_be_visible()
    page.get_by_role("button", name="Search without filters").click()
    page.wait_for_selector(".hit")
    visit.search("zzzz")
    page.get_by_role("button", name="Search by meaning").click()
    page.wait_for_selector(".hit")
    assert "mode=vector" in page.url


def test_a_release_is_noticed_and_its_hits_are_one_click_away(visits: Visits, conf: Path, site: Site) -> None:
    visit = visits(None)
    visit.page.clock.install()
    page = visit.open("/?q=wagon").page
    before, other = visit.hits(), generations(site)[1]
    assert backhaul_here("rollback", conf, "--yes").code == 0
    try:
        until(lambda: site.search(query="wagon")["generation"] == other)
        expect(page.locator("#notice")).to_be_empty()
        page.clock.fast_forward(31_000)
        expect(page.locator("#notice")).to_contain_text(f"Generation {other} is live by now")
        page.get_by_role("button", name="Search again").click()
        expect(page.locator("#notice")).to_be_empty()
        assert visit.settled().hits() != before
    finally:
        assert backhaul_here("run", conf, "--set", f"split.max_tokens={TOKENS[-1]}").code == 0
