"""Connections that cost little whoever opens them: their number, their heads and their silence are bounded.

Extends uvicorn's protocol, which bounds none of these. Knows no route.
"""

from __future__ import annotations

import asyncio
import http
import re
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobs.service.limits import ConnectionSettings
from jobs.service.problems import Refusal

_OFFER = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class Connection(HttpToolsProtocol):
    """One connection, from its first byte to its last."""

    limits: ClassVar[ConnectionSettings]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: as uvicorn calls it
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: Refusal | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.limits.most:
            self._refuse(Refusal("overloaded", "too many connections; ask again later", retry_after_s=1))
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        self._head_bytes += len(data)
        super().data_received(self._without_offers(data) if self._head_timer is not None else data)
        if self._head_timer is not None and self._head_bytes > self.limits.max_head_bytes:
            self._refuse(self._too_large())

    def on_headers_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.max_head_bytes:
            self._refusal = self._too_large()
            raise ValueError("the head is too large")  # ends the parsing, and comes back to send_400_response
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or Refusal("bad_request", "this is not understood as HTTP/1.1"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def _without_offers(self, data: bytes) -> bytes:
        """Java's client offers HTTP/2 with each request, and the parser would then pass over the body."""
        head, end, rest = data.partition(b"\r\n\r\n")
        return _OFFER.sub(b"\r\nx-passed-over:", head) + end + rest if _OFFER.search(head) else data

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.limits.head_s, self.transport.close)

    def _too_large(self) -> Refusal:
        return Refusal("head_too_large", f"the request's head is larger than {self.limits.max_head_bytes} bytes")

    def _refuse(self, refusal: Refusal) -> None:
        """Before there is a request that could be answered."""
        body = refusal.body()
        lines = [
            f"HTTP/1.1 {refusal.status} {http.HTTPStatus(refusal.status).phrase}",
            *(f"{name}: {value}" for name, value in refusal.headers().items()),
            f"content-length: {len(body)}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


def connections_with(limits: ConnectionSettings) -> type[Connection]:
    """The protocol to give to uvicorn."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
