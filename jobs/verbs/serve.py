"""Serve the live generation over HTTP. Knows no route."""

from __future__ import annotations

from jobs.session import Session
from pipelines.embed.backends import open_query_embedder


def serve_live(session: Session, *, host: str, port: int, tenant: str | None) -> None:
    """Until told to stop. Raises SettingsError where the address or the settings do not do."""
    from jobs.service.serve import bind, must_be_closed_to_others, serve
    from jobs.service.service import Service

    settings = session.settings
    must_be_closed_to_others(settings.serve, host)
    bound = bind(host, port)
    session.say(f"loading {settings.embed.model or settings.embed.backend}")
    embedder = open_query_embedder(
        settings.embed, settings.storage, threads=settings.serve.threads, backend=settings.serve.backend
    )
    service = Service(session.target, session.log, embedder, settings.serve, settings.index.analyzer)
    scheme = "https" if settings.serve.tls.certificate else "http"
    session.say(f"serving {settings.corpus} at {scheme}://{host}:{bound.getsockname()[1]}/ ; Ctrl-C ends it")
    serve(service, settings.serve, bound, tenant)
