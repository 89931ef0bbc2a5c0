"""What is said of a model behind a service: where it is, what it is called, and what its vectors are like.

Typed settings and what belongs to which backend; asks nobody and never holds a key.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

RemoteBackend = Literal["http", "bedrock", "sagemaker"]
REMOTE: tuple[RemoteBackend, ...] = ("http", "bedrock", "sagemaker")
BATCH_RECORDS = (100, 50_000)  # of one Bedrock batch job, by its default quotas


class BatchSettings(BaseModel):
    """Jobs over files in S3 instead of requests: for big runs, at a lower price and without rate limits.

    Queries, the records that a job failed at, and parts of fewer than ``min_records`` rows still go by request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = Field(
        None, pattern="^s3://[^/]", description="where the jobs' files go, such as s3://bucket/batch; null: no jobs"
    )
    role_arn: str | None = Field(None, description="bedrock: the service role that reads and writes these files")
    model_name: str | None = Field(None, description="sagemaker: the model (of SageMaker) that transform jobs run")
    instance_type: str = Field("ml.g5.xlarge", description="sagemaker: machines of a transform job")
    instance_count: int = Field(1, ge=1, description="sagemaker: how many machines a transform job has")
    min_records: int = Field(
        BATCH_RECORDS[0], ge=1, description="fewer rows than that go by request; Bedrock takes no smaller jobs than 100"
    )
    poll_s: float = Field(30.0, gt=0, description="seconds between two looks at a job")
    timeout_h: float = Field(24.0, gt=0, description="hours after which a job that has not ended fails its partition")


class RemoteSettings(BaseModel):
    """A model behind a service. Its Space is what is declared here: change ``revision`` when the service changes the
    model under its name. With ``serves_model`` the Space is that of ``embed.model``, whose files are here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="the model's id, as the service calls it")
    url: str | None = Field(
        None, description="http: the address before /embeddings, such as https://host/v1; AWS: another endpoint"
    )
    endpoint: str | None = Field(
        None, description="sagemaker: the endpoint's name; bedrock: an inference profile or provisioned throughput"
    )
    region: str | None = Field(None, description="bedrock, sagemaker: AWS region; null: that of the AWS chain")
    key_env: str = Field(
        "EMBEDDING_API_KEY",
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="http: the environment variable that holds the bearer key, on every worker; unset: no key is sent",
    )
    revision: str | None = Field(None, description="tells models of one id apart; part of the Space")
    serves_model: bool = Field(
        False,
        description="the service runs embed.model itself: its Space, prompts and tokenizer hold, compared at start",
    )
    dimensions: int | None = Field(None, ge=1, le=16_384, description="length of the vectors; needed")
    send_dimensions: bool = Field(False, description="http: ask the service for vectors of that length")
    max_tokens: int | None = Field(
        None,
        ge=8,
        description="longest text that the model takes, in tokens; what is longer is cut, and counted; needed",
    )
    document_prompt: str = Field("", description="put before every document")
    query_prompt: str = Field("", description="put before every query")
    normalized: bool = Field(True, description="whether the service gives vectors of length 1")
    tokenizer: str | None = Field(
        None, description="reference of a folder with the model's tokenizer.json, for exact counts; null: approximate"
    )
    texts_per_request: int | None = Field(
        None, ge=1, le=2048, description="null: http and sagemaker 32, Cohere on Bedrock 96, Titan 1"
    )
    max_in_flight: int = Field(16, ge=1, le=256, description="requests of one worker at a time, at most")
    timeout_s: float = Field(60.0, gt=0, description="seconds of silence after which a request is given up")
    deadline_s: float = Field(
        300.0, gt=0, description="seconds without an answer of use after which the run stops; it can be resumed"
    )
    batch: BatchSettings = BatchSettings()

    @model_validator(mode="after")
    def _is_declared(self) -> RemoteSettings:
        own = {"dimensions", "max_tokens", "document_prompt", "query_prompt", "normalized", "tokenizer", "revision"}
        if self.serves_model and (said := sorted(own & _said(self))):
            raise ValueError(f"serves_model takes {said[0]} from embed.model; leave embed.remote.{said[0]} out")
        if not self.serves_model and (missing := [n for n in ("dimensions", "max_tokens") if getattr(self, n) is None]):
            raise ValueError(
                f"embed.remote.{missing[0]} is missing: look it up where the model is described, or set "
                "embed.remote.serves_model: true if the service runs embed.model"
            )
        return self

    def must_suit(self, backend: RemoteBackend, rows_per_part: int) -> None:
        """Raises ValueError for what is missing for this backend, or belongs to another one."""
        for key, backends in _BELONGS.items():
            if key in _said(self) and backend not in backends:
                raise ValueError(f"embed.remote.{key} belongs to backend {' and '.join(backends)}, not {backend}")
        batch = _said(self.batch)
        for key, backends in _BELONGS_TO_BATCH.items():
            if key in batch and backend not in backends:
                raise ValueError(f"embed.remote.batch.{key} belongs to backend {' and '.join(backends)}, not {backend}")
        for key in _NEEDED[backend]:
            if getattr(self, key) is None:
                raise ValueError(f"embed.remote.{key} is missing; backend {backend} needs it{_EXAMPLE[key]}")
        if self.url is not None:
            _must_be_address(self.url)
        if self.batch.uri is None:
            if batch:
                raise ValueError(f"embed.remote.batch.{min(batch)} is for jobs, which embed.remote.batch.uri asks for")
            return
        needed = "role_arn" if backend == "bedrock" else "model_name"
        if getattr(self.batch, needed) is None:
            raise ValueError(f"embed.remote.batch.{needed} is missing; batch jobs of {backend} need it")
        if backend == "bedrock" and self.batch.min_records < BATCH_RECORDS[0]:
            raise ValueError(f"embed.remote.batch.min_records: Bedrock takes no jobs of fewer than {BATCH_RECORDS[0]}")
        if not self.batch.min_records <= rows_per_part <= BATCH_RECORDS[1]:
            raise ValueError(f"a job embeds one part: set embed.rows_per_part between {self.batch.min_records} and "
                             f"{BATCH_RECORDS[1]} (it is {rows_per_part}), the larger the better")  # fmt: skip


_AWS = ("bedrock", "sagemaker")
_BELONGS: dict[str, tuple[str, ...]] = {
    "endpoint": _AWS,
    "region": _AWS,
    "batch": _AWS,
    "key_env": ("http",),
    "send_dimensions": ("http",),
}
_BELONGS_TO_BATCH: dict[str, tuple[str, ...]] = {
    "role_arn": ("bedrock",),
    "model_name": ("sagemaker",),
    "instance_type": ("sagemaker",),
    "instance_count": ("sagemaker",),
}
_NEEDED: dict[str, tuple[str, ...]] = {"http": ("url",), "bedrock": (), "sagemaker": ("endpoint",)}
_EXAMPLE = {"url": ", such as https://api.example.com/v1", "endpoint": ": the endpoint's name"}


def _said(model: BaseModel) -> set[str]:
    """The keys that were given another value than the default."""
    default: dict[str, Any] = {name: field.default for name, field in type(model).model_fields.items()}
    return {name for name in model.model_fields_set if getattr(model, name) != default[name]}


def _must_be_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("embed.remote.url holds a user name or password; keys come from the environment alone")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"embed.remote.url {url!r} is not an address; write https://host/v1, without a query")
