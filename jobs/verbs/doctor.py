"""Doctor: check what a run needs before it needs it, and say how to mend what is wrong."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from jobs.session import Session
from pipelines.embed.backends import open_embedder, space_of
from pipelines.embed.remote_embedder import RemoteEmbedder
from pipelines.errors import BackhaulError
from pipelines.plan.listing import list_source, open_source
from pipelines.store import Created, open_store

_PACKAGES = (
    "obstore",
    "pyarrow",
    "lancedb",
    "opensearch-py",
    "onnxruntime",
    "tokenizers",
    "torch",
    "sentence-transformers",
)
_WORKER_GB = 1.0  # a worker with the MiniLM model and two parts in flight stays below this


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str


def examine(session: Session) -> dict[str, Any]:
    """Every check, passed or not; nothing is left behind in the root."""
    able: dict[str, str] = {}
    checks = [_check(name, probe) for name, probe in _probes(session, able)]
    return {"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks],
            "capabilities": able,
            "versions": {**_versions(), "python": platform.python_version()}}  # fmt: skip


def _probes(session: Session, able: dict[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "settings", lambda: f"corpus {session.settings.corpus}, engine {session.settings.engine.name}"
    yield "root", lambda: _root(session)
    yield "source", lambda: _source(session)
    yield "model", lambda: _model(session)
    if session.settings.embed.remote:
        yield "embedder", lambda: _embedder(session)
        if session.settings.embed.remote.batch.uri:
            yield "batch files", lambda: _batch_files(session)
    yield "index", lambda: _index(session, able)
    yield "memory", lambda: _memory(session)
    if session.settings.engine.name == "spark":
        yield "java", lambda: _java(session)


def _check(name: str, probe: Callable[[], str]) -> Check:
    try:
        return Check(name, True, probe())
    except BackhaulError as error:
        return Check(name, False, str(error))


def _root(session: Session) -> str:
    key, data = "doctor/probe", b"written by backhaul doctor\n"
    session.store.delete([key])
    first, second = session.store.create(key, data), session.store.create(key, data + b"again")
    session.store.delete([key])
    if (first, second) != (Created.WON, Created.LOST):
        raise BackhaulError(
            f"{session.store.uri} does not honour create-if-absent (If-None-Match: *), which the commit protocol "
            "relies on; use an S3 API that does"
        )
    return f"{session.store.uri} can be written, and creates only if absent"


def _source(session: Session) -> str:
    source, only = open_source(session.settings.source)
    listing = list_source(source, session.settings.source, only)
    return f"{len(listing)} objects under {session.settings.source.uri}"


def _model(session: Session) -> str:
    space = space_of(session.settings.embed, session.settings.storage)
    session.maker  # noqa: B018  # checks the derived file against its card
    return f"weights {space.weights if session.settings.embed.remote else space.weights[:12]}, {space.dimensions} dimensions, at most {space.max_tokens} tokens"


def _embedder(session: Session) -> str:
    """One text, to whoever makes the vectors elsewhere."""
    began = time.monotonic()
    embedder = open_embedder(session.settings.embed, session.settings.storage)
    assert isinstance(embedder, RemoteEmbedder)
    took_ms, billed = (time.monotonic() - began) * 1000, embedder.account.total
    return (f"{embedder.name} answered in {took_ms:.0f} ms with {embedder.space.dimensions} dimensions, "
            f"{billed.tokens or 'untold'} tokens billed{embedder.compared}")  # fmt: skip


def _batch_files(session: Session) -> str:
    remote = session.settings.embed.remote
    assert remote is not None
    assert remote.batch.uri is not None
    store, key = open_store(remote.batch.uri, session.settings.storage), "doctor/probe"
    store.put(key, b"written by backhaul doctor\n")
    store.delete([key])
    return f"{store.uri} can be written; whether {remote.batch.role_arn or remote.batch.model_name} may, the first job tells"


def _index(session: Session, able: dict[str, str]) -> str:
    """``able`` is given what the index can do, also where that is not enough."""
    found = ", ".join(f"{name} {value}" for name, value in session.target.describe().items())
    able |= session.target.capabilities()
    if refusals := session.target.refusals():
        raise BackhaulError(f"{found}; it cannot hold what the settings ask for: " + "; ".join(refusals))
    return found


def _memory(session: Session) -> str:
    available = psutil.virtual_memory().available / 1e9
    wanted = _WORKER_GB * max(1, session.settings.engine.workers)
    if available < wanted:
        raise BackhaulError(
            f"{available:.1f} GB of memory are free, {session.settings.engine.workers} workers may need {wanted:.1f}; "
            "lower engine.workers"
        )
    return f"{available:.1f} GB free"


def _java(session: Session) -> str:
    session.engine  # noqa: B018  # its error comes first
    from jobs.engines.spark_context import java_version

    return f"version {java_version()}"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
