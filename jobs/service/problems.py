"""What a client is told when it gets no answer: a status, a code, a sentence. Knows no route."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson

from jobs.service.requests import Problem, ProblemAnswer

STATUS = {
    "bad_request": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404, "method_not_allowed": 405, "too_slow": 408,
    "gone": 410, "too_large": 413, "rate_limited": 429, "head_too_large": 431, "internal": 500, "overloaded": 503, "space_mismatch": 503, "unavailable": 503,
    "deadline": 504,
}  # fmt: skip
RETRY_AFTER_S = 1.0


class Refusal(Exception):
    """``retry_after_s`` None: asking again would not help, or nobody knows when it would. ``reason`` is for the audit: a word
    or two of ours."""

    def __init__(self, code: str, message: str, *, details: Sequence[Any] = (), retry_after_s: float | None = None,
                 reason: str | None = None) -> None:  # fmt: skip
        super().__init__(message)
        self.code = code
        self.status = STATUS[code]
        self.details = list(details)
        self.retry_after_s = retry_after_s
        self.reason = reason or code

    def body(self) -> bytes:
        problem = Problem(code=self.code, message=str(self), details=self.details)
        return orjson.dumps(ProblemAnswer(error=problem).model_dump())

    def headers(self) -> dict[str, str]:
        found = {"content-type": "application/json"}
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        if self.status in (429, 503):
            found["retry-after"] = str(max(1, math.ceil(self.retry_after_s or RETRY_AFTER_S)))
        return found
