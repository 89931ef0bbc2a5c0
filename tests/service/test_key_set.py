"""Keys kept fresh: read again in time and when a new one is asked for, never in a storm, and old ones only for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from jobs.service.auth import Unauthorized
from jobs.service.jwks import Keys, KeysUnreadable, PublicKey, parse_keys, read_url
from jobs.service.key_set import KeySet
from jobs.service.problems import Refusal
from tests.fixtures.http_stand_in import Reply, serving
from tests.service.issuer import key_set, public_jwk

FAR = 1000.0


def key(name: str) -> PublicKey:
    return PublicKey(name, frozenset(["RS256"]))


class Publisher:
    """What there is to read; ``error`` instead, where it is set."""

    def __init__(self, *names: str) -> None:
        self.keys: Keys = {name: key(name) for name in names}
        self.error: Exception | None = None
        self.readings = 0

    def read(self) -> Keys:
        self.readings += 1
        if self.error is not None:
            raise self.error
        return self.keys


class HandClock:
    """Monotonic time that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def kept(publisher: Publisher, *, ttl_s: float = FAR, stale_s: float = FAR, patience_s: float = 0.01,
         clock: HandClock | None = None) -> Iterator[KeySet]:  # fmt: skip
    found = KeySet(publisher.read, "https://i/keys", ttl_s=ttl_s, stale_s=stale_s, patience_s=patience_s,
                   **({"clock": clock} if clock else {}))  # fmt: skip
    try:
        yield found
    finally:
        found.close()


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def knows(keys: KeySet, name: str) -> bool:
    try:
        return keys.find(name).public == name
    except Unauthorized:
        return False


def test_a_key_is_found_by_its_name_and_an_only_one_without() -> None:
    with kept(Publisher("a", "b")) as keys:
        assert [keys.find(name).public for name in ("a", "b")] == ["a", "b"]
        with pytest.raises(Unauthorized, match="which key") as caught:
            keys.find(None)
        assert caught.value.reason == "no kid"
    with kept(Publisher("a")) as keys:
        assert keys.find(None).public == "a"


def test_what_cannot_be_read_at_first_is_an_error() -> None:
    publisher = Publisher("a")
    publisher.error = KeysUnreadable("the answer is 404, not 200")
    with pytest.raises(KeysUnreadable, match="404"):
        KeySet(publisher.read, "https://i/keys", ttl_s=FAR, stale_s=FAR)


def test_a_new_key_is_known_soon_after_it_was_asked_for() -> None:
    publisher = Publisher("a")
    with kept(publisher) as keys:
        publisher.keys = {**publisher.keys, "new": key("new")}
        with pytest.raises(Unauthorized, match="ask again in a moment") as caught:
            keys.find("new")
        assert caught.value.reason == "unknown key"
        until(lambda: knows(keys, "new"))
        assert knows(keys, "a")


def test_keys_are_read_again_after_their_ttl_though_nobody_asks() -> None:
    publisher = Publisher("a")
    with kept(publisher, ttl_s=0.03) as keys:
        publisher.keys = {"b": key("b")}
        until(lambda: publisher.readings >= 4)
        assert not knows(keys, "a")
        assert knows(keys, "b")


def test_nothing_is_read_again_before_that() -> None:
    publisher = Publisher("a")
    with kept(publisher) as keys:
        for _ in range(200):
            assert knows(keys, "a")
        time.sleep(0.1)
    assert publisher.readings == 1


def test_forged_names_make_no_storm() -> None:
    """However many come, in however many threads: nothing is read within the patience, and then once."""
    publisher = Publisher("a")

    def forge(keys: KeySet, thread: int) -> None:
        for number in range(100):
            with pytest.raises(Unauthorized):
                keys.find(f"forged-{thread}-{number}")
            time.sleep(0.001)

    with kept(publisher, patience_s=FAR) as keys:
        threads = [threading.Thread(target=forge, args=(keys, n)) for n in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert publisher.readings == 1
    publisher = Publisher("a")
    with kept(publisher, patience_s=0.2) as keys:
        assert not knows(keys, "forged")
        assert not knows(keys, "forged")
        until(lambda: publisher.readings >= 2)
        time.sleep(0.5)
    assert publisher.readings == 2


def test_a_reading_that_failed_is_tried_again_after_the_patience_though_nobody_asks() -> None:
    publisher = Publisher("a")
    with kept(publisher) as keys:
        publisher.error = KeysUnreadable("gone")
        assert not knows(keys, "b")
        until(lambda: publisher.readings >= 5)
        publisher.keys, publisher.error = {"c": key("c")}, None
        until(lambda: len(publisher.keys) == 1 and "c" in keys._known[0])


def test_the_patience_with_forged_names_is_ten_seconds_and_no_longer_than_the_ttl() -> None:
    publisher = Publisher("a")
    for ttl_s, patience_s in ((300.0, 10.0), (2.0, 2.0)):
        keys = KeySet(publisher.read, "https://i/keys", ttl_s=ttl_s, stale_s=0.0, clock=(clock := HandClock()))
        clock.now += ttl_s + 0.1
        with pytest.raises(Refusal) as caught:
            keys.find("a")
        assert caught.value.retry_after_s == patience_s
        keys.close()


def test_known_keys_hold_for_a_while_when_they_cannot_be_read() -> None:
    publisher, clock = Publisher("a"), HandClock()
    with kept(publisher, ttl_s=10.0, stale_s=60.0, clock=clock) as keys:
        publisher.error = KeysUnreadable("the answer is 503, not 200")
        clock.now += 70.0
        assert keys.find("a").public == "a"
        clock.now += 0.1
        with pytest.raises(Refusal, match="tokens cannot be checked now") as caught:
            keys.find("a")
        assert (caught.value.code, caught.value.status) == ("unavailable", 503)
        assert caught.value.reason == "old keys"
        assert not isinstance(caught.value, Unauthorized)
        with pytest.raises(Refusal, match="tokens cannot be checked now"):
            keys.find(None)


def test_a_server_that_is_back_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    publisher, clock = Publisher("a"), HandClock()
    with caplog.at_level(logging.WARNING), kept(publisher, ttl_s=0.03, stale_s=1.0, clock=clock) as keys:
        publisher.error = KeysUnreadable("the answer is 503, not 200")
        until(lambda: publisher.readings >= 4)
        clock.now += 2.0
        with pytest.raises(Refusal):
            keys.find("a")
        publisher.keys, publisher.error = {"b": key("b")}, None
        seen = publisher.readings
        until(lambda: publisher.readings >= seen + 2)
        assert keys.find("b").public == "b"
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "the issuer's keys at https://i/keys cannot be read, those known hold for a while: the answer is 503, not 200"
    ]


def test_the_same_trouble_is_told_again_after_it_was_gone(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher("a")
    with caplog.at_level(logging.WARNING), kept(publisher, ttl_s=0.02):
        for _ in range(2):
            publisher.error = KeysUnreadable("gone")
            seen = publisher.readings
            until(lambda: publisher.readings >= seen + 3)  # noqa: B023  # called at once
            publisher.error = None
            seen = publisher.readings
            until(lambda: publisher.readings >= seen + 3)  # noqa: B023
    assert len(caplog.records) == 2


def test_whatever_reading_meets_it_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher("a")
    with kept(publisher, ttl_s=0.02) as keys:
        publisher.error = RuntimeError("secret")
        until(lambda: publisher.readings >= 4)
        assert knows(keys, "a")
        publisher.keys, publisher.error = {"b": key("b")}, None
        until(lambda: knows(keys, "b"))
    assert "cannot be read: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_closing_ends_its_thread_at_once_wherever_it_waits() -> None:
    for patience_s, pause_s in ((FAR, 0.0), (0.001, 0.05)):
        publisher = Publisher("a")
        before = {*threading.enumerate()}
        keys = KeySet(publisher.read, "https://i/keys", ttl_s=FAR, stale_s=FAR, patience_s=patience_s)
        (thread,) = {*threading.enumerate()} - before
        assert (thread.daemon, thread.name) == (True, "jwks")
        time.sleep(pause_s)
        keys.close()
        assert not thread.is_alive()
        assert publisher.readings == 1


def test_an_issuer_that_rotates_its_keys_over_a_real_server() -> None:
    published, status = [public_jwk("rsa", kid="a")], 200

    def serve(request: object) -> Reply:
        return Reply(status, key_set(*published))

    with serving(serve) as url:
        keys = KeySet(lambda: parse_keys(read_url(url), ["RS256"]), url, ttl_s=FAR, stale_s=FAR, patience_s=0.01)
        try:
            published.append(public_jwk("rsa", 1, kid="b"))

            def new_one() -> bool:
                try:
                    return bool(keys.find("b"))
                except Unauthorized:
                    return False

            until(new_one)
            published[:], status = [public_jwk("rsa", 2, kid="c")], 500
            with pytest.raises(Unauthorized):
                keys.find("c")
            time.sleep(0.05)
            assert keys.find("a") != keys.find("b")
        finally:
            keys.close()
