"""How the service ends so that nobody notices: first it says that it goes, then it answers what it has, then it goes.

On SIGTERM it is not ready any more, and still answers for a while, as a load balancer takes its time to see that; each
answer then closes its connection, so that none is closed under a request. Afterwards it takes no more connections, and
what is under way has another while. SIGINT, or a second signal, skips the first part, and one more all of it.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

_CLOSE = (b"connection", b"close")

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """
    Args:
        deregistration_s: seconds after SIGTERM in which it still answers.
        drain_s: seconds then left to requests under way.
        on_drain: called as soon as the first signal is there, so that readiness says so at once.
    """

    def __init__(
        self, config: uvicorn.Config, *, deregistration_s: float, drain_s: float, on_drain: Callable[[], None]
    ) -> None:
        config.timeout_graceful_shutdown = math.ceil(drain_s)
        super().__init__(config)
        self._deregistration_s = deregistration_s
        self._on_drain = on_drain
        self._until: float | None = None
        self._closing = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, leaves no signal to be raised again afterwards: this end is no failure."""
        if self.should_exit:
            self.force_exit = True
            return
        told_before, self._until = self._until is not None, time.monotonic() + self._deregistration_s
        self._on_drain()
        self.should_exit = told_before or sig == signal.SIGINT or not self.started

    async def on_tick(self, counter: int) -> bool:
        if self._until is not None:
            if not self._closing:
                self._closing = True
                log.info("draining: still answering for %g s", self._deregistration_s)
                self._close_after_answers()
            self.should_exit = self.should_exit or time.monotonic() >= self._until
        return await super().on_tick(counter)

    def _close_after_answers(self) -> None:
        self.config.encoded_headers = [*self.config.encoded_headers, _CLOSE]
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self.server_state.connections:
            cycle = getattr(connection, "cycle", None)  # None before the first request
            if cycle is not None and not cycle.response_complete:
                cycle.keep_alive = False
