"""The API as OpenAPI tells it. Knows no question."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_OPERATIONS = ("get", "post")
_RETRY = {
    "Retry-After": {"description": "seconds, whole", "schema": {"type": "integer", "minimum": 1}, "required": True}
}


def describe(app: FastAPI, *, guarded: bool) -> dict[str, Any]:
    """What FastAPI makes of the routes, less its own shape of errors, which ours replaces; with tokens where they are asked
    for."""
    found: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for path, operations in found["paths"].items():
        for method in _OPERATIONS:
            if method not in operations:
                continue
            responses = operations[method]["responses"]
            responses.pop("422", None)
            for status in {"429", "503"} & responses.keys():
                if path.startswith("/v1/"):
                    responses[status]["headers"] = _RETRY
            if guarded and path.startswith("/v1/"):
                operations[method]["security"] = [{"token": []}]
    schemas = found["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if guarded:
        found["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "an API key or a JSON Web Token"}
        }
    return found
