"""What an embedding service's refusal means for the one who sent the request. Knows statuses and error names of the
OpenAI-compatible servers, Bedrock and SageMaker; sends nothing.

Sources: the errors of InvokeModel (Bedrock API reference) and InvokeEndpoint (SageMaker API reference), OpenAI's error
codes, and the status codes of text-embeddings-inference (413 batch too large, 422 cannot be tokenised, 424 the backend
failed, 429 overloaded).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import EmbedderError
from pipelines.verdict import Verdict

NO_CONNECTION, TIMEOUT, CERTIFICATE, NO_CREDENTIALS = "no_connection", "timeout", "certificate", "no_credentials"
BROKEN, UNREADABLE, INCOMPLETE = "connection_broken", "unreadable_answer", "incomplete_answer"
NOT_POOLED = "vectors_of_tokens"


@dataclass(frozen=True, slots=True)
class Failure:
    """``status`` None: no answer came. ``type`` is the service's error name, or ours for what has none;
    ``retry_after_s`` what the service asked us to wait."""

    status: int | None
    type: str
    reason: str
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} {self.type}: {self.reason}"


class Refused(EmbedderError):
    """One request that brought no vectors. ``tokens`` were billed all the same."""

    def __init__(self, failure: Failure, *, tokens: int | None = None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.tokens = tokens


_BY_TYPE = {
    NO_CONNECTION: Verdict.BACK_OFF,
    TIMEOUT: Verdict.SHRINK,
    CERTIFICATE: Verdict.STOP,
    NO_CREDENTIALS: Verdict.STOP,
    BROKEN: Verdict.BACK_OFF,
    UNREADABLE: Verdict.BACK_OFF,  # a proxy's page
    NOT_POOLED: Verdict.STOP,
    # Never taken apart: which vector is whose is not known any more.
    INCOMPLETE: Verdict.SHRINK,
    "insufficient_quota": Verdict.STOP,  # 429 of OpenAI: the money is used up
    "billing_hard_limit_reached": Verdict.STOP,
    "ThrottlingException": Verdict.BACK_OFF,
    "TooManyRequestsException": Verdict.BACK_OFF,
    "ServiceQuotaExceededException": Verdict.BACK_OFF,
    "ModelNotReadyException": Verdict.BACK_OFF,
    "ModelTimeoutException": Verdict.SHRINK,
    "ModelErrorException": Verdict.BACK_OFF,
    "ServiceUnavailable": Verdict.BACK_OFF,
    "ValidationException": Verdict.REJECT,
    "ValidationError": Verdict.STOP,  # of SageMaker: there is no such endpoint
    "ExpiredTokenException": Verdict.STOP,
    "UnrecognizedClientException": Verdict.STOP,
    "AccessDeniedException": Verdict.STOP,
    "ResourceNotFoundException": Verdict.STOP,
}


def classify(failure: Failure) -> Verdict:
    if verdict := _BY_TYPE.get(failure.type):
        return verdict
    status = failure.status or 0
    if status in (400, 422):
        return Verdict.REJECT
    if status == 413:
        return Verdict.SHRINK
    if status in (408, 409, 424, 425, 429) or status >= 500:
        return Verdict.BACK_OFF
    return Verdict.STOP


def is_rate_limit(failure: Failure) -> bool:
    """More was asked for than is allowed in that time; how much was in flight at once is not the matter."""
    return failure.status == 429 or failure.type in ("ThrottlingException", "TooManyRequestsException")


def is_overload(failure: Failure) -> bool:
    """A service that has too much to do."""
    return failure.type in (TIMEOUT, "ModelTimeoutException") or failure.status in (408, 502, 503, 504, 529)


def is_silence(failure: Failure) -> bool:
    """There is nobody to answer."""
    return failure.type == NO_CONNECTION


def advice_on(failure: Failure, key: str) -> str:
    """What to do, for people. ``key`` says where the service's credentials come from."""
    if advice := _ADVICE.get(failure.type):
        return advice
    if failure.status in (401, 403):
        return f"check {key} and what it allows"
    if failure.status == 404 or failure.type == "ResourceNotFoundException":
        return (
            "check embed.remote.model, embed.remote.url and embed.remote.endpoint, and that the model is enabled there"
        )
    if failure.status in (301, 302, 307, 308):
        return "set embed.remote.url to the address that it redirects to"
    if is_rate_limit(failure):
        return "its limit is used up by others; lower engine.workers, or ask for a higher one"
    return "`backhaul doctor CONF` asks it with one text"


_ADVICE = {
    NO_CONNECTION: "check that it runs, that embed.remote.url is right and that this machine may reach it",
    TIMEOUT: "it answers too slowly: lower embed.remote.texts_per_request or engine.workers, or raise embed.remote.timeout_s",
    CERTIFICATE: "its certificate is not trusted here; name its CA in SSL_CERT_FILE (or AWS_CA_BUNDLE)",
    NO_CREDENTIALS: "set AWS_PROFILE or AWS_ACCESS_KEY_ID where the workers run, or give them a role",
    "insufficient_quota": "the account has no credit left; add some",
    "ExpiredTokenException": "the credentials have expired; renew them",
    "ValidationError": "check embed.remote.endpoint and embed.remote.region: such an endpoint is not there",
    UNREADABLE: "what answers there is not an embedding service, or a proxy cuts its answers off",
    BROKEN: "something between here and the service breaks its answers off",
    NOT_POOLED: "the endpoint gives a vector per token; deploy the model with a container that pools, such as "
    "text-embeddings-inference",
    INCOMPLETE: "the service loses texts; report it there",
}


def short(text: str) -> str:
    """Both ends of a long reason, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= 400 else f"{text[:250]} … {text[-150:]}"
