"""Security headers."""

from __future__ import annotations


def security_headers(path: str, *, tls: bool) -> list[tuple[bytes, bytes]]:
    return []
