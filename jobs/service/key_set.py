"""Keys that somebody else publishes, kept fresh by a thread of their own, so that who asks for one never waits.

They are read again after ``ttl_s``, and sooner when a key is asked for that is not among them: an issuer may sign with
a new key at once. However many ask, there is one reading in ``patience_s``: forged tokens must not make a storm of them.
While they cannot be read, known keys hold for ``stale_s`` beyond their ttl: no longer, since one of them may have been
withdrawn. Knows no token and no way to read.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from jobs.service.auth import Unauthorized
from jobs.service.jwks import Keys, KeysUnreadable, PublicKey
from jobs.service.problems import Refusal
from pipelines.clock import SYSTEM, Clock

_PATIENCE_S = 10.0
_CLOSE_S = 10.0  # longer than a reading may take

log = logging.getLogger(__name__)


class KeySet:
    """``place`` is what messages call the keys' address. Raises what ``read`` raises if they cannot be read at first."""

    def __init__(self, read: Callable[[], Keys], place: str, *, ttl_s: float, stale_s: float,
                 patience_s: float = _PATIENCE_S, clock: Clock = SYSTEM) -> None:  # fmt: skip
        self._read, self._place, self._clock = read, place, clock
        self._ttl_s, self._stale_s, self._patience_s = ttl_s, stale_s, min(patience_s, ttl_s)
        self._known = (read(), clock.monotonic())  # one value, so that no look-up needs a lock
        self._trouble = ""
        self._turn = threading.Condition()
        self._asked = self._closed = False
        self._thread = threading.Thread(target=self._follow, name="jwks", daemon=True)
        self._thread.start()

    def find(self, kid: str | None) -> PublicKey:
        """The key of this name; without one, the only key.

        Raises:
            Unauthorized: there is no such key, yet.
            Refusal: the keys are too old.
        """
        keys, read_at = self._known
        if self._clock.monotonic() - read_at > self._ttl_s + self._stale_s:
            raise Refusal("unavailable", "tokens cannot be checked now: the issuer's keys could not be read for too long; "
                          "ask again in a moment", retry_after_s=self._patience_s, reason="old keys")  # fmt: skip
        if kid is None:
            if len(keys) > 1:
                raise Unauthorized("the token does not say which key it is signed with (kid), and its issuer has several",
                                   reason="no kid")  # fmt: skip
            return next(iter(keys.values()))
        found = keys.get(kid)
        if found is None:
            self._ask()
            raise Unauthorized("the token is signed with a key that its issuer has not published; if the key is new, ask "
                               "again in a moment", reason="unknown key")  # fmt: skip
        return found

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._turn.notify()
        self._thread.join(_CLOSE_S)

    def _ask(self) -> None:
        with self._turn:
            self._asked = True
            self._turn.notify()

    def _follow(self) -> None:
        sound = True
        while not self._wait(self._patience_s, for_asking=False) and (
            not sound or not self._wait(self._ttl_s - self._patience_s, for_asking=True)
        ):
            sound = self._refresh()

    def _wait(self, seconds: float, *, for_asking: bool) -> bool:
        """Whether to end."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed or (for_asking and self._asked), seconds)
            if for_asking:
                self._asked = False
            return self._closed

    def _refresh(self) -> bool:
        try:
            self._known = (self._read(), self._clock.monotonic())
        except KeysUnreadable as error:
            self._say(f"the issuer's keys at {self._place} cannot be read, those known hold for a while: {error}")
            return False
        except Exception as error:  # whatever it is, following must go on
            self._say(f"the issuer's keys at {self._place} cannot be read: {type(error).__name__}")
            return False
        self._trouble = ""
        return True

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble
