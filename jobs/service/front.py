"""Around every route: who asks, what it took, what is logged; a request id and the security headers. Knows no question."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.service.audit import Audit
from jobs.service.auth import Caller, Gatekeeper, Unauthorized
from jobs.service.headers import security_headers
from jobs.service.index import Spent
from jobs.service.metrics import Metrics
from jobs.service.problems import Refusal

_GUARDED = "/v1/"
_ROUTES = (
    "/v1/search",
    "/v1/embed",
    "/v1/generations",
    "/v1/documents",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/",
)

log = logging.getLogger(__name__)


class Front:
    """Routes find ``caller`` and ``spent`` in the request's state, and may put into ``audited`` what its line shall say."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper, metrics: Metrics, audit: Audit, *, tls: bool) -> None:
        self._app, self._gatekeeper, self._metrics, self._audit = app, gatekeeper, metrics, audit
        self._headers = {path: security_headers(path, tls=tls) for path in ("/", _GUARDED)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, id_, path = time.monotonic(), secrets.token_hex(8), scope["path"]
        guarded = path.startswith(_GUARDED)
        spent, audited = Spent(), dict[str, Any]()
        scope.setdefault("state", {}).update(spent=spent, audited=audited)
        headers = [*self._headers[_GUARDED if guarded else "/"], (b"x-request-id", id_.encode())]
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                timing = f"index;dur={spent.index_s * 1e3:.2f}, embed;dur={spent.embed_s * 1e3:.2f}, " \
                         f"total;dur={(time.monotonic() - began) * 1e3:.2f}"  # fmt: skip
                message["headers"] = [*message.get("headers", []), *headers, (b"server-timing", timing.encode())]
            await send(message)

        caller: Caller | None = None
        try:
            if guarded:
                caller = self._admit(scope, audited)
                scope["state"]["caller"] = caller
            await self._app(scope, receive, answer)
        except Refusal as refusal:
            await _refuse(refusal, answer)
        except Exception:
            log.exception("request %s failed", id_)
            if status == 0:
                await _refuse(Refusal("internal", f"request {id_} failed; its log has the reason"), answer)
        finally:
            seconds = time.monotonic() - began
            self._count(path, status, seconds, spent)
            if guarded:
                self._audit.write(id_=id_, caller=caller, method=scope["method"], path=path, status=status, seconds=seconds,
                                  spent=spent, more=audited)  # fmt: skip

    def _admit(self, scope: Scope, audited: dict[str, Any]) -> Caller:
        found = [value for name, value in scope["headers"] if name == b"authorization"]
        try:
            if len(found) > 1:
                raise Unauthorized("there is more than one Authorization header; send one", reason="malformed header")
            return self._gatekeeper.admit(found[0].decode("latin-1") if found else None)
        except Refusal as refusal:
            audited["refused"] = refusal.reason
            raise

    def _count(self, path: str, status: int, seconds: float, spent: Spent) -> None:
        route = path if path in _ROUTES else "/page" if path.startswith("/page/") else "other"
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if spent.index_s:
            self._metrics.index.observe(spent.index_s)
        if spent.embed_s:
            self._metrics.embed.observe(spent.embed_s)


async def _refuse(refusal: Refusal, send: Send) -> None:
    body = refusal.body()
    headers = {**refusal.headers(), "content-length": str(len(body))}
    await send({"type": "http.response.start", "status": refusal.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})  # fmt: skip
    await send({"type": "http.response.body", "body": body})
