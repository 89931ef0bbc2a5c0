"""Debian's Chromium, and what a test does with a search page in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Kept for the whole life of a page: what its policy refused, dialogs and errors included (see `Visit`).
_WATCH = """window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => refused.push(`${event.violatedDirective} ${event.blockedURI}`));"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a user data folder of its own, which goes with it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page of its own profile, that has ``token`` if one is given. ``troubles``: dialogs, errors of scripts, what the page's security policy refused."""

    def __init__(self, browser: Browser, url: str, token: str | None = None, **options: Any) -> None:
        self._context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        self._context.set_default_timeout(8_000)
        self._context.add_init_script(_WATCH)
        if token:
            self._context.add_init_script(f"sessionStorage.setItem('backhaul.token', '{token}')")
        self.url, self._troubles = url, list[str]()
        self.page: Page = self._context.new_page()
        self.page.on("dialog", lambda dialog: (self._troubles.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self._troubles.append(f"error {error}"))
        self.page.on(
            "request", lambda request: request.url.startswith((url, "data:")) or self._troubles.append(request.url)
        )

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self._context.close()

    @property
    def troubles(self) -> list[str]:
        return [*self._troubles, *self.page.evaluate("refused")]

    def open(self, address: str = "/") -> Visit:
        """Until the page knows its generation, or says why not, and shows the hits that the address asks for."""
        self.page.goto(self.url + address)
        self.page.wait_for_selector("#results > *, #token-form:not([hidden])")
        return self.settled()

    def settled(self) -> Visit:
        self.page.wait_for_selector("#results:not([aria-busy])", state="attached")
        return self

    def search(self, words: str) -> Visit:
        self.page.get_by_role("searchbox", name="Query").fill(words)
        with self.page.expect_response("**/v1/search"):
            self.page.keyboard.press("Enter")
        return self.settled()

    def hits(self, side: str = "") -> list[str]:
        """Ids of the chunks that are shown, of side A or B in a comparison."""
        within = f"[aria-label='Side {side}'] " if side else ""
        return cast(
            list[str], self.page.eval_on_selector_all(f"{within}.hit", "hits => hits.map(hit => hit.dataset.id)")
        )

    def focus(self) -> str:
        """The id or class of what has the focus; of a hit's title the hit's chunk."""
        return cast(
            str,
            self.page.evaluate("""() => { const now = document.activeElement;
            return now.classList.contains("title") ? now.closest(".hit").dataset.id : now.id || now.className || now.localName; }"""),
        )

    def overflow(self) -> int:
        """Pixels by which the page, or a dialog in it, is wider than its window."""
        return cast(
            int,
            self.page.evaluate("""() => Math.max(...[document.documentElement, ...document.querySelectorAll("dialog[open], dialog .body")]
            .map(box => box.scrollWidth - box.clientWidth))"""),
        )

    def inaccessible(self) -> list[str]:
        """What axe finds, each with the element that it means; of the other colour scheme, contrasts alone."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        found = self._axe({})
        self.page.emulate_media(color_scheme="dark")
        found += self._axe({"runOnly": ["color-contrast"]})
        self.page.emulate_media(color_scheme="light")
        return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]

    def _axe(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        options = {"resultTypes": ["violations"], **options}
        return cast(
            list[dict[str, Any]],
            self.page.evaluate("options => axe.run(options).then(found => found.violations)", options),
        )
