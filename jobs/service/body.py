"""A request's body, read before its route is called: no more bytes than are taken, and in good time. Knows no question.

So a slow sender holds a connection and nothing else, and what is not taken is never in memory.
"""

from __future__ import annotations

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.service.problems import Refusal

_MOST_DISCARDED = 1 << 20  # beyond the limit: who sends a little too much is told so, and not cut off


class BodyRefused(Refusal):
    """``closes``: the rest of the body is not waited for."""

    def __init__(self, code: str, message: str, *, closes: bool) -> None:
        super().__init__(code, message, reason="body " + code.replace("_", " "))
        self._closes = closes

    def headers(self) -> dict[str, str]:
        return super().headers() | ({"connection": "close"} if self._closes else {})


class BodyLimit:
    """Calls the app with the whole body, or raises BodyRefused. Who goes away meanwhile is not answered."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, within_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (length := _declared(scope)):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._within_s):
                body = await self._read(receive, length, expects=_has(scope, b"expect"))
        except TimeoutError as error:
            raise BodyRefused(
                "too_slow", f"the body did not come within {self._within_s:g} seconds", closes=True
            ) from error
        if body is None:
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive, length: float, *, expects: bool) -> bytes | None:
        """None: nobody is there any more."""
        most = self._max_bytes + _MOST_DISCARDED
        if length < math.inf and (length > most or (expects and length > self._max_bytes)):
            raise self._too_large(closes=True)
        chunks, size, more = list[bytes](), 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > most:
                raise self._too_large(closes=True)
            if size > self._max_bytes:
                chunks.clear()
            else:
                chunks.append(chunk)
        if size > self._max_bytes:
            raise self._too_large(closes=False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self, *, closes: bool) -> BodyRefused:
        return BodyRefused(
            "too_large", f"the body is larger than {self._max_bytes} bytes (serve.limits.max_body_bytes)", closes=closes
        )


def _declared(scope: Scope) -> float:
    """Bytes; 0: there is no body; infinite: nobody says how long it is."""
    length = 0.0
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return math.inf
        if name == b"content-length":
            length = float(value)  # digits, or the request had not come through
    return length


def _has(scope: Scope, wanted: bytes) -> bool:
    return any(name == wanted for name, _ in scope["headers"])
