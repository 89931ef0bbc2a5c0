"""The routes. Each takes a typed question, asks the searcher and spells the answer; knows no index."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from jobs.service.metrics import Metrics
from jobs.service.openapi import describe
from jobs.service.problems import Refusal
from jobs.service.requests import (
    DocumentAnswer,
    EmbedAnswer,
    EmbedRequest,
    GenerationsAnswer,
    ProblemAnswer,
    ReadyAnswer,
    SearchAnswer,
    SearchRequest,
)
from jobs.service.searcher import Answer
from jobs.service.service import Service
from jobs.service.tenancy import ForeignHits
from pipelines.errors import BackhaulError, QueryRefused
from pipelines.highlight import highlighter
from pipelines.targets.target import Hit

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
_SPELL = orjson.OPT_SERIALIZE_NUMPY
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemAnswer, "description": said}
    for status, said in {
        400: "The question cannot be asked", 401: "No valid token", 403: "The token opens nothing here",
        404: "There is no such thing", 408: "The body took too long to come", 410: "The generation is gone", 413: "The body is too large",
        429: "Too many requests of this tenant", 500: "A defect of the service",
        503: "Overloaded, or the index or the live generation is away", 504: "The deadline passed",
    }.items()
}  # fmt: skip


def make_app(service: Service) -> FastAPI:
    """Its routes alone; ``Front`` goes around it."""
    app = FastAPI(title="Backhaul", version="1", description=f"Search of the corpus {service.corpus}.",
                  docs_url=None, redoc_url=None, lifespan=service.lifespan)  # fmt: skip
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not described:
            described.update(describe(app, guarded=service.guarded))
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
    _tell_problems(app, service.metrics)

    @app.post("/v1/search", responses={200: {"model": SearchAnswer}, **_PROBLEMS}, summary="Search a generation")
    async def search(request: Request, asked: SearchRequest) -> Response:
        began, state = time.monotonic(), request.state
        state.audited.update(k=asked.k, mode=asked.mode, query=asked.query)
        answer = await service.searcher.search(asked, state.caller, state.spent)
        service.noted(asked, state.caller)
        took_ms = (time.monotonic() - began) * 1e3
        return _json(_spelled(answer, asked, took_ms, service.analyzer))

    @app.post(
        "/v1/embed", responses={200: {"model": EmbedAnswer}, **_PROBLEMS}, summary="Embed texts in the service's Space"
    )
    async def embed(request: Request, asked: EmbedRequest) -> Response:
        began, state = time.monotonic(), request.state
        vectors = await service.searcher.embed(asked.texts, asked.role, state.caller, state.spent)
        encoder = service.searcher.encoder
        assert encoder is not None
        return _json({"vectors": vectors, "dimensions": encoder.space.dimensions, "space": encoder.space.fingerprint,
                      "took_ms": (time.monotonic() - began) * 1e3})  # fmt: skip

    @app.get(
        "/v1/generations",
        responses={200: {"model": GenerationsAnswer}, **_PROBLEMS},
        summary="Generations, filters, limits",
    )
    async def generations(request: Request) -> Response:
        return _json((await service.generations(request.state.caller)).model_dump())

    @app.get(
        "/v1/documents", responses={200: {"model": DocumentAnswer}, **_PROBLEMS}, summary="A document's chunks in order"
    )
    async def documents(
        request: Request,
        document_id: Annotated[str, Query(min_length=1, max_length=1_000)],
        generation: Annotated[str | None, Query(min_length=1, max_length=512)] = None,
        tenant: Annotated[
            str | None, Query(max_length=256, description="for callers that see several: whose document")
        ] = None,
    ) -> Response:
        state = request.state
        name, hits, whole = await service.searcher.document(document_id, generation, tenant, state.caller, state.spent)
        first = hits[0]
        return _json({
            "generation": name, "document_id": document_id, "title": first.title, "uri": first.uri, "metadata": first.metadata,
            "doc_type": first.doc_type, "date": first.date, "whole": whole,
            "chunks": [{"id": hit.id, "ordinal": hit.ordinal, "text": hit.text, "start": hit.start, "end": hit.end} for hit in hits],
        })  # fmt: skip

    @app.get("/healthz", summary="Whether the process lives")
    async def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get(
        "/readyz",
        responses={200: {"model": ReadyAnswer}, 503: {"model": ReadyAnswer}},
        summary="Whether it should be asked",
    )
    async def readyz() -> Response:
        found = service.readiness()
        return _json(found.model_dump(), 200 if found.ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.measured(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


def _spelled(answer: Answer, asked: SearchRequest, took_ms: float, analyzer: str) -> dict[str, Any]:
    highlights = highlighter(asked.query or "" if asked.highlight else "", analyzer)
    return {"generation": answer.generation, "mode": asked.mode, "took_ms": round(took_ms, 3), "cursor": answer.cursor,
            "hits": [_hit(hit, asked, highlights(hit.text)) for hit in answer.hits]}  # fmt: skip


def _hit(hit: Hit, asked: SearchRequest, marked: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "id": hit.id, "document_id": hit.document_id, "score": hit.score, "text": hit.text, "title": hit.title, "uri": hit.uri,
        "metadata": hit.metadata, "tenant": hit.tenant, "doc_type": hit.doc_type, "date": hit.date, "ordinal": hit.ordinal, "start": hit.start,
        "end": hit.end, "highlights": marked,
        "sources": {side: {"rank": rank, "score": score} for side, (rank, score) in hit.sources.items()} if asked.explain else None,
        "vector": hit.vector,
    }  # fmt: skip


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value, option=_SPELL), status, media_type="application/json")


def _tell_problems(app: FastAPI, metrics: Metrics) -> None:
    """Every error in one shape, with nothing of the request repeated but names of fields."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        request.state.audited["refused"] = refusal.reason
        if isinstance(refusal, ForeignHits):
            metrics.foreign.inc(refusal.count)
            log.error("%d hits of other tenants were held back: the index does not filter as it should", refusal.count)
        return Response(refusal.body(), refusal.status, refusal.headers())

    @app.exception_handler(QueryRefused)
    async def cannot(request: Request, error: QueryRefused) -> Response:
        return await refused(request, Refusal("bad_request", str(error)))

    @app.exception_handler(BackhaulError)
    async def away(request: Request, error: BackhaulError) -> Response:
        return await refused(
            request, Refusal("unavailable", "the index or the model does not answer as it should; ask again")
        )

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:  # and raised on, so that it is logged
        return await refused(
            request, Refusal("internal", "the service failed; its log has the reason, under the request's id")
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [
            {"field": ".".join(map(str, each["loc"][1:]))[:200], "problem": each["msg"][:200]}
            for each in error.errors()[:10]
        ]
        named = "; ".join(f"{each['field'] or 'body'}: {each['problem']}" for each in found[:3])
        return await refused(
            request, Refusal("bad_request", f"the request is not understood: {named}; see /openapi.json", details=found)
        )

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        refusal = Refusal(code, f"{request.method} {request.url.path[:200]}: {error.detail}; see /openapi.json")
        return Response(refusal.body(), refusal.status, {**refusal.headers(), **(error.headers or {})})
