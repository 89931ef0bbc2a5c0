"""Headers that every answer has, so that a browser gives the page no more than it needs. Knows no route but prefixes.

Values: OWASP, "HTTP Headers Cheat Sheet". No header says which server or version answers.
"""

from __future__ import annotations

# The page loads its own files and asks its own server. Nothing may frame it, and no script stands in its text.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_ALWAYS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
}
_PRIVATE = "/v1/"  # answers are for their caller alone, and no cache on the way may keep one


def security_headers(path: str, *, tls: bool) -> list[tuple[bytes, bytes]]:
    """As ASGI has them. ``tls``: whether the client came over TLS; a promise to stay there is ignored elsewhere."""
    headers = _ALWAYS | {"cache-control": "no-store" if path.startswith(_PRIVATE) else "no-cache"}
    if tls:
        headers["strict-transport-security"] = "max-age=31536000"
    return [(name.encode(), value.encode()) for name, value in headers.items()]
