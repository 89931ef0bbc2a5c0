"""What turns a request away for now, each with the seconds after which it is worth asking again. Knows no route.

Refusal (jobs/service/problems.py)
├── RateLimited   429  this tenant has asked too often
├── Overloaded    503  everybody together asks more than the index answers
└── CircuitOpen   503  the index does not answer
"""

from __future__ import annotations

from jobs.service.problems import Refusal


class RateLimited(Refusal):
    def __init__(self, retry_after_s: float) -> None:
        super().__init__("rate_limited", "more requests than serve.limits.requests_per_s allows a tenant; ask again later",
                         retry_after_s=retry_after_s)  # fmt: skip


class Overloaded(Refusal):
    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "overloaded",
            "more is asked than can be answered in good time; ask again later",
            retry_after_s=retry_after_s,
        )


class CircuitOpen(Refusal):
    def __init__(self, retry_after_s: float) -> None:
        super().__init__("unavailable", "the index does not answer; ask again later", retry_after_s=retry_after_s)
