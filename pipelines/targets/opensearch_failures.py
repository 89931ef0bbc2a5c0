"""What an OpenSearch error means for the one who sent the request. Knows statuses and error types, no requests.

Classified by ``error.type`` first: one status says different things (429 is a full queue, a tripped breaker or a
disk over its flood stage, and only the first passes by itself).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.errors import TargetHalted
from pipelines.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Failure:
    """``status`` None: no answer came. ``type`` is the server's error type, or ours for what has none."""

    status: int | None
    type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} {self.type}: {self.reason}"


class Refused(TargetHalted):
    """A request that got an error for an answer, or none."""

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


NO_CONNECTION, TIMEOUT, CERTIFICATE, UNREADABLE = "no_connection", "timeout", "certificate", "unreadable_answer"

_BY_TYPE = {
    "rejected_execution_exception": Verdict.BACK_OFF,
    "opensearch_rejected_execution_exception": Verdict.BACK_OFF,
    "node_not_connected_exception": Verdict.BACK_OFF,
    "node_disconnected_exception": Verdict.BACK_OFF,
    "node_closed_exception": Verdict.BACK_OFF,
    "no_shard_available_action_exception": Verdict.BACK_OFF,
    "unavailable_shards_exception": Verdict.BACK_OFF,
    "cluster_manager_not_discovered_exception": Verdict.BACK_OFF,
    "master_not_discovered_exception": Verdict.BACK_OFF,
    "process_cluster_event_timeout_exception": Verdict.BACK_OFF,
    "circuit_breaking_exception": Verdict.SHRINK,
    "cluster_block_exception": Verdict.STOP,  # read-only or over the flood stage; as 429 too
    "security_exception": Verdict.STOP,
    "index_not_found_exception": Verdict.STOP,
    "index_closed_exception": Verdict.STOP,
    NO_CONNECTION: Verdict.BACK_OFF,
    TIMEOUT: Verdict.SHRINK,
    "fail_processor_exception": Verdict.REJECT,  # a pipeline of the index's owner, as 500
    CERTIFICATE: Verdict.STOP,
    UNREADABLE: Verdict.BACK_OFF,  # a proxy in front of a node that restarts
}


def classify(failure: Failure) -> Verdict:
    """The verdict on one item of a bulk, or on a whole request."""
    if verdict := _BY_TYPE.get(failure.type):
        return verdict
    status = failure.status or 0
    if status == 413:
        return Verdict.SHRINK
    if status == 400:
        return Verdict.REJECT
    if status == 429 or status >= 500:
        return Verdict.BACK_OFF
    return Verdict.STOP


def is_unforeseen(failure: Failure) -> bool:
    """An error of the node that no rule knows: it may pass, or the document is to blame."""
    return failure.status == 500 and failure.type not in _BY_TYPE


def is_overload(failure: Failure) -> bool:
    """Whether it says that less at once would have been taken."""
    return failure.status == 429 or failure.type in ("rejected_execution_exception", "circuit_breaking_exception")


def was_answered(failure: Failure) -> bool:
    """Whether a node of the cluster said it, in full."""
    return failure.type not in (NO_CONNECTION, TIMEOUT, CERTIFICATE, UNREADABLE) and failure.status not in (
        502,
        503,
        504,
    )


def may_pass(failure: Failure) -> bool:
    """Whether to repeat a request that holds no documents. An unknown 500 is a bug that waiting does not mend."""
    if is_unforeseen(failure):
        return False
    return classify(failure) in (Verdict.BACK_OFF, Verdict.SHRINK) and failure.status != 413


def failure_of(status: int | None, error: Any) -> Failure:  # Any: an object, a string, or an AWS message
    """From the ``error`` value of an answer or of one bulk item."""
    if not isinstance(error, dict):
        return Failure(status, f"http_{status}", _short(str(error or "no explanation")))
    cause = error
    if error.get("type") == "search_phase_execution_exception" and error.get("root_cause"):
        cause = error["root_cause"][0]
    reason = str(cause.get("reason") or "")
    deeper = cause.get("caused_by")
    if isinstance(deeper, dict) and deeper.get("reason") and str(deeper["reason"]) not in reason:
        reason += f" ({deeper['reason']})"
    return Failure(status, str(cause.get("type") or f"http_{status}"), _short(reason))


ADVICE = {
    NO_CONNECTION: "check that it runs, that index.url is right and that this machine may reach it",
    TIMEOUT: "it answers too slowly; check its load, its health and the network",
    CERTIFICATE: "set index.ca_certs to the CA that signed its certificate",
    "circuit_breaking_exception": "its heap is full: lower the load on it, give it more heap, or set a smaller "
    "index.max_bulk_bytes",
    "rejected_execution_exception": "it has more to do than it can take: lower engine.workers, or add nodes",
    "cluster_block_exception": "the index or the cluster is blocked: free disk space, or lift the block "
    "(GET /_cluster/settings and GET /INDEX/_settings show it)",
    "index_not_found_exception": "`backhaul list CONF` shows the generations that exist",
    "index_closed_exception": "open the index again",
}


def advice_on(failure: Failure) -> str:
    if advice := ADVICE.get(failure.type):
        return advice
    if failure.status in (401, 403):
        return ("check OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD, or index.region and the AWS credentials, "
                "and what this user may do")  # fmt: skip
    return "`backhaul doctor CONF` checks the cluster"


def _short(text: str) -> str:
    """Both ends of a long reason: the explanation follows what it quotes."""
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:300]} … {text[-200:]}"
