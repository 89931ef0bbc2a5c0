"""The watch over EC2's notices, against a service over real HTTP that answers, hangs, refuses or talks nonsense."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.engines.notice import Notice, SpotWatch, life_cycle
from tests.fixtures.imds import LIFE_CYCLE, REBALANCE, SPOT, TOKEN_PATH, FakeImds, Fault, fake_imds

PROJECT = Path(__file__).parents[2]
OFTEN = {"poll_s": 0.01, "rare_poll_s": 0.01}
DEADLINE_S = 30.0

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Notice] = []
        self._changed = threading.Condition()

    def __call__(self, notice: Notice) -> None:
        with self._changed:
            self.heard.append(notice)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Notice]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, DEADLINE_S), f"heard only {self.heard}"
            return list(self.heard)


@pytest.fixture
def ear() -> Ear:
    return Ear()


def polls(imds: FakeImds, count: int) -> None:
    """Wait until the rebalance recommendation, the last of a poll, was asked for ``count`` more times."""
    wanted = imds.count(path=REBALANCE) + count
    imds.wait_for(lambda: imds.count(path=REBALANCE) >= wanted, f"{count} polls")


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "spot-watch"]


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.01)


def test_a_spot_notice_is_told_with_its_time(imds: FakeImds, ear: Ear) -> None:
    at = imds.announce_spot(in_s=100)
    with SpotWatch(ear):
        (notice,) = ear.wait_for(1)
    assert (notice.kind, notice.detail) == ("spot", f"spot notice: terminate at {at:%H:%M:%SZ}")
    assert notice.deadline_s is not None
    assert 50 < notice.deadline_s <= 100


def test_a_rebalance_recommendation_is_told_and_leaves_the_time_open(imds: FakeImds, ear: Ear) -> None:
    imds.announce_rebalance()
    with SpotWatch(ear):
        assert ear.wait_for(1) == [Notice("rebalance", "rebalance recommendation of 08:22:00Z", None)]


def test_a_notice_that_appears_later_is_told(imds: FakeImds, ear: Ear) -> None:
    with SpotWatch(ear, **OFTEN):
        polls(imds, 3)
        assert ear.heard == []
        imds.announce_spot()
        assert ear.wait_for(1)[0].kind == "spot"


def test_each_kind_is_told_once(imds: FakeImds, ear: Ear) -> None:
    imds.announce_spot()
    with SpotWatch(ear, **OFTEN):
        ear.wait_for(1)
        polls(imds, 5)
        assert [notice.kind for notice in ear.heard] == ["spot"]
        imds.announce_rebalance()
        assert [notice.kind for notice in ear.wait_for(2)] == ["spot", "rebalance"]
        until(lambda: watching() == [], "the watch to end, as there is nothing left to tell")


def test_rebalance_is_not_asked_for_where_nobody_wants_to_know(imds: FakeImds, ear: Ear) -> None:
    imds.announce_rebalance()
    with SpotWatch(ear, rebalance=False, **OFTEN):
        imds.wait_for(lambda: imds.count(path=SPOT) >= 3, "three polls")
    assert ear.heard == []
    assert imds.count(path=REBALANCE) == 0


@pytest.mark.parametrize(("time_of", "left_s"), [
    ("2017-09-18T08:22:00Z", 0.0), ("2999-01-01T00:00:00Z", 120.0), ("0001-01-01T00:00:00+14:00", None),
    ("soon", None), (7, None),
])  # fmt: skip
def test_no_moment_is_believed_beyond_what_ec2_gives(
    imds: FakeImds, ear: Ear, time_of: Any, left_s: float | None
) -> None:
    imds.metadata[SPOT] = json.dumps({"action": "stop", "time": time_of})
    with SpotWatch(ear):
        (notice,) = ear.wait_for(1)
    assert notice.detail.startswith("spot notice: stop")
    assert notice.deadline_s == left_s


FAULTS: dict[str, tuple[Fault, str]] = {
    "hangs": ("hang", "/"),
    "hangs after the token": ("hang", "/latest/meta-data"),
    "hangs in the body": ("hang in the body", "/latest/meta-data"),
    "closes": ("close", "/"),
    "no token": (401, "/"),
    "token of no use": (401, "/latest/meta-data"),
    "forbidden": (403, "/"),
    "another cloud": (404, TOKEN_PATH),
    "broken": (500, "/"),
    "broken after the token": (500, "/latest/meta-data"),
    "rubbish": (b"<html>\r\nSet-Cookie: x</html>", "/"),
    "rubbish after the token": (b"{]", "/latest/meta-data"),
    "not JSON at all": (b"\xff\xfe", "/latest/meta-data"),
    "no object": (b"[1, 2]", "/latest/meta-data"),
    "unknown action": (b'{"action": "\\u001b[31mdance", "time": "2017-09-18T08:22:00Z"}', "/latest/meta-data"),
    "deep": (b"[" * 60_000, "/latest/meta-data"),
    "endless": ("endless", "/latest/meta-data"),
    "endless token": ("endless", "/"),
    "too long": (b'{"action": "stop"' + b" " * 70_000 + b"}", "/latest/meta-data"),
    "empty": (b"", "/"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_tells_nothing_and_what_comes_after_it_is_told(
    imds: FakeImds, ear: Ear, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    imds.fault, imds.fault_at = FAULTS[name]
    imds.announce_spot()
    with caplog.at_level(logging.DEBUG), SpotWatch(ear, timeout_s=0.05, **OFTEN):
        until(lambda: "does not answer" in caplog.text, "the watch to fall silent")
        arrived = imds.arrived
        imds.wait_for(lambda: imds.arrived > arrived + 2, "the watch to go on asking")
        assert ear.heard == []
        imds.fault = None
        assert ear.wait_for(1)[0].kind == "spot"
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []
    assert len([record for record in caplog.records if "does not answer" in record.message]) == 1
    assert "secret" not in caplog.text
    assert all(token not in caplog.text for token in imds.tokens)


def test_a_refused_connection_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_imds() as gone:
        pass
    for name, value in gone.environment().items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.DEBUG), SpotWatch(ear, **OFTEN):
        until(lambda: "does not answer (ConnectionRefusedError)" in caplog.text, "the watch to fall silent")
    assert ear.heard == []


def test_a_fault_of_one_answer_does_not_hide_the_other(imds: FakeImds, ear: Ear) -> None:
    imds.fault, imds.fault_at = 500, f"/latest/meta-data/{SPOT}"
    imds.announce_rebalance()
    with SpotWatch(ear):
        assert ear.wait_for(1)[0].kind == "rebalance"


def test_a_token_is_renewed_before_it_ends(imds: FakeImds, ear: Ear) -> None:
    imds.token_ttl_s = 1  # as announced: the fake would go on to accept it
    with SpotWatch(ear, **OFTEN):
        imds.wait_for(lambda: len(imds.tokens) >= 3, "two renewals")
    assert 401 not in {asked.status for asked in imds.answered}
    assert imds.count() > len(imds.tokens) * 2  # used more than once each


def test_a_token_forgotten_by_the_service_is_replaced_at_once(imds: FakeImds, ear: Ear) -> None:
    with SpotWatch(ear, **OFTEN):
        polls(imds, 2)
        assert len(imds.tokens) == 1
        imds.announce_spot()
        imds.forget_tokens()
        ear.wait_for(1)
    statuses = [asked.status for asked in imds.answered if asked.method == "GET"]
    assert statuses.count(401) == 1
    assert len(imds.tokens) == 2


def test_where_nothing_ever_answered_it_is_asked_rarely(imds: FakeImds, ear: Ear) -> None:
    imds.fault = 403
    with SpotWatch(ear, poll_s=0.01):
        imds.wait_for(lambda: imds.arrived >= 6, "three polls, each with two questions")
        time.sleep(0.3)  # thirty polls, if nothing had been learned
        assert imds.arrived == 6


def test_a_service_that_has_answered_is_asked_as_often_as_before_when_it_fails(imds: FakeImds, ear: Ear) -> None:
    with SpotWatch(ear, poll_s=0.01):
        polls(imds, 1)
        imds.fault = 500
        arrived = imds.arrived
        imds.wait_for(lambda: imds.arrived >= arrived + 20, "ten more polls")


def test_a_service_that_hangs_holds_up_neither_the_beginning_nor_the_end(imds: FakeImds, ear: Ear) -> None:
    imds.fault, imds.hang_s = "hang", 10  # whoever waited for its answer would find it answered
    with SpotWatch(ear, timeout_s=50):
        imds.wait_for(lambda: imds.arrived == 1, "the question that hangs")
        assert imds.answered == []  # the block began without its answer
    assert imds.answered == []  # and ended without it
    imds.released.set()
    until(lambda: watching() == [], "the watch to end")
    assert imds.arrived == 1  # it asked nothing more


@pytest.mark.parametrize("fault", ["hang", "hang in the body"])
def test_a_process_ends_while_the_service_hangs(imds: FakeImds, fault: Fault) -> None:
    imds.fault = fault
    program = (
        "import sys\nfrom jobs.engines.notice import SpotWatch\n"
        "with SpotWatch(print, timeout_s=50):\n    print('working', flush=True)\n    sys.stdin.readline()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    try:
        imds.wait_for(lambda: imds.arrived == 1, "the question that hangs")
        out, err = process.communicate("\n", timeout=DEADLINE_S)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "working\n", "")
    assert imds.answered == []


@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_nothing_starts_where_metadata_is_disabled(
    imds: FakeImds, ear: Ear, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", value)
    imds.announce_spot()
    with SpotWatch(ear):
        assert watching() == []
    assert life_cycle() == "unknown"
    assert imds.arrived == 0


def test_nothing_is_imported_where_metadata_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    program = (
        "import sys\nfrom jobs.engines.stop import StopSignals\n"
        "with StopSignals(on_second=print): print('http.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True,
                          timeout=DEADLINE_S, check=True)  # fmt: skip
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "endpoint", ["file:///etc/hostname", "ftp://127.0.0.1", "http://", "http://x:port", "metadata"]
)
def test_an_endpoint_that_is_no_http_address_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, ear: Ear, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
    with SpotWatch(ear):
        until(lambda: watching() == [], "the watch to give up")
    assert "AWS_EC2_METADATA_SERVICE_ENDPOINT is no http:// or https:// address" in caplog.text
    assert life_cycle() == "unknown"


@pytest.mark.parametrize(
    "endpoint", ["http://a b/", "http://[::1]:1/", "http://127.0.0.1:1/\x01", "https://127.0.0.1:1"]
)
def test_an_endpoint_that_leads_nowhere_is_survived(
    monkeypatch: pytest.MonkeyPatch, ear: Ear, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
    with caplog.at_level(logging.DEBUG), SpotWatch(ear, **OFTEN):
        until(lambda: "does not answer" in caplog.text, "the watch to fall silent")


def test_no_proxy_is_asked_and_no_redirect_followed(imds: FakeImds, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_imds() as stranger:
        stranger.announce_spot()
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, stranger.endpoint)
        imds.fault, imds.redirect_to = "redirect", stranger.endpoint
        with SpotWatch(ear, **OFTEN):
            imds.wait_for(lambda: imds.arrived >= 4, "two polls")
        imds.fault_at = "/latest/meta-data"
        with SpotWatch(ear, **OFTEN):
            polls(imds, 2)
        assert stranger.arrived == 0
    assert ear.heard == []


def test_the_path_of_an_endpoint_stands_before_every_question(
    imds: FakeImds, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{imds.endpoint}/behind/")
    with SpotWatch(ear):
        imds.wait_for(lambda: bool(imds.answered), "a question")
    assert imds.answered[0].path == f"/behind{TOKEN_PATH}"


def test_an_ear_that_fails_is_logged_and_the_watch_goes_on(imds: FakeImds, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def failing(notice: Notice) -> None:
        heard.append(notice.kind)
        raise KeyError("an ordinary bug")

    imds.announce_spot()
    with SpotWatch(failing, **OFTEN):
        until(lambda: heard == ["spot"], "the spot notice")
        imds.announce_rebalance()
        until(lambda: heard == ["spot", "rebalance"], "the recommendation")
    assert "a notice found no ear" in caplog.text


def test_nothing_is_told_after_the_block(imds: FakeImds, ear: Ear) -> None:
    imds.announce_spot()
    imds.fault, imds.fault_at = "late", f"/latest/meta-data/{SPOT}"
    with SpotWatch(ear, timeout_s=50):
        imds.wait_for(lambda: imds.arrived == 2, "the question after the token")
    imds.released.set()
    until(lambda: watching() == [], "the watch to end")
    assert imds.count(path=SPOT) == 1  # answered
    assert ear.heard == []


@pytest.mark.parametrize(("says", "means"), [
    ("spot", "spot"), ("on-demand", "on-demand"), ("scheduled", "on-demand"), ("capacity-block", "on-demand"),
    ("spot\n", "spot"), ("<html>", "unknown"), (None, "unknown"),
])  # fmt: skip
def test_the_life_cycle_of_this_machine(imds: FakeImds, says: str | None, means: str) -> None:
    if says is not None:
        imds.metadata[LIFE_CYCLE] = says
    assert life_cycle() == means


@pytest.mark.parametrize("fault", ["hang", "close", 401, 500, b"\x00"])
def test_the_life_cycle_is_unknown_where_nothing_can_be_heard(imds: FakeImds, fault: Fault) -> None:
    imds.fault = fault
    imds.metadata[LIFE_CYCLE] = "spot"
    assert life_cycle() == "unknown"
