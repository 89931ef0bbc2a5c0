"""Runs the service over HTTP until it is told to stop. Knows no question."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
import time

import uvicorn

from jobs.service.app import make_app
from jobs.service.audit import Audit
from jobs.service.auth import is_loopback, open_gatekeeper
from jobs.service.body import BodyLimit
from jobs.service.connections import connections_with
from jobs.service.draining import DrainingServer
from jobs.service.front import Front
from jobs.service.service import Service
from jobs.service.settings import ServeSettings
from pipelines.errors import SettingsError

_THREADS_END_S = 1.0


def serve(service: Service, settings: ServeSettings, bound: socket.socket, tenant: str | None) -> None:
    """Until SIGTERM or SIGINT, which lets what is under way end."""
    gatekeeper = open_gatekeeper(settings.auth, tenant)
    app = BodyLimit(make_app(service), max_bytes=settings.limits.max_body_bytes, within_s=settings.connections.body_s)
    front = Front(app, gatekeeper, service.metrics, Audit(settings.audit), tls=settings.tls.certificate is not None)
    config = uvicorn.Config(
        front, loop="uvloop", http=connections_with(settings.connections), ws="none", lifespan="on", access_log=False,
        server_header=False, log_config=None, ssl_certfile=settings.tls.certificate, ssl_keyfile=settings.tls.key,
        timeout_keep_alive=settings.connections.keep_alive_s, proxy_headers=False,
    )  # fmt: skip
    server = DrainingServer(
        config, deregistration_s=settings.deregistration_s, drain_s=settings.drain_s, on_drain=service.drain
    )
    # What is loaded by now stays: walking over it took every full collection 70 ms, in which nobody was answered.
    gc.collect()
    gc.freeze()
    try:
        server.run([bound])
    finally:
        gc.unfreeze()
        bound.close()
        gatekeeper.close()
    _leave_what_hangs()


def _leave_what_hangs() -> None:
    """Python waits for its threads, and one that asks an index that hangs would keep the process for minutes."""
    until = time.monotonic() + _THREADS_END_S
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread.daemon:
            continue
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            logging.shutdown()
            sys.stderr.flush()
            os._exit(0)


def must_be_closed_to_others(settings: ServeSettings, host: str) -> None:
    """Raises SettingsError for an address beyond loopback without authentication."""
    if settings.auth.method == "none" and not is_loopback(host):
        raise SettingsError(f"{host} can be reached by others and serve.auth.method is none; set serve.auth.method to api_keys "
                            "or jwt, or serve on 127.0.0.1")  # fmt: skip


def bind(host: str, port: int) -> socket.socket:
    """Port 0 is any free one. Raises SettingsError where the address cannot be taken."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, proto)  # bound before anything is loaded
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --host and --port"
        ) from error
    return bound
