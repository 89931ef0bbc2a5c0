"""Embeddings by a SageMaker endpoint: InvokeEndpoint with the request shape of Hugging Face's containers
(text-embeddings-inference, and the inference toolkit where its handler pools): ``{"inputs": [...]}`` in, a list of
vectors out. An endpoint is billed by the hour, and tells no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from pipelines.embed.aws_service import CREDENTIALS, aws_client, refusals
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.on_http import stacked
from pipelines.embed.remote_failures import INCOMPLETE, NOT_POOLED, UNREADABLE, Failure, Refused, short
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.embed.service import Answer
from pipelines.space import Space

_TEXTS = 32  # what text-embeddings-inference takes unless told otherwise


class SageMakerService:
    def __init__(self, settings: RemoteSettings, space: Space) -> None:
        assert settings.endpoint is not None
        self._endpoint = settings.endpoint
        self._client = aws_client("sagemaker-runtime", settings, url=settings.url)
        self.name = f"SageMaker's endpoint {self._endpoint} in {self._client.meta.region_name}"
        self.key = CREDENTIALS
        self.texts_per_request = settings.texts_per_request or _TEXTS

    def send(self, texts: Sequence[str], role: Role) -> Answer:
        with refusals():
            found = self._client.invoke_endpoint(EndpointName=self._endpoint, ContentType="application/json",
                                                 Accept="application/json", Body=request_of(texts))  # fmt: skip
            data = found["Body"].read()
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Refused(Failure(200, UNREADABLE, f"the answer is not JSON, or breaks off: {data[:80]!r}")) from error
        return Answer(rows_of(value, len(texts)), None)


def request_of(texts: Sequence[str]) -> bytes:
    return orjson.dumps({"inputs": list(texts)})


def rows_of(value: Any, count: int) -> Vectors:  # Any: JSON
    """float32[count, dimensions] of what a container answers for ``count`` texts. Raises Refused."""
    if not isinstance(value, list):
        raise Refused(Failure(200, UNREADABLE, f"the answer is {type(value).__name__}, not a list of vectors"))
    if len(value) != count:
        raise Refused(Failure(200, INCOMPLETE, f"{len(value)} vectors came for {count} texts"))
    if isinstance(value[0], list) and value[0] and isinstance(value[0][0], list):
        raise Refused(Failure(200, NOT_POOLED, "a vector per token came, and no vector per text"))
    try:
        return stacked(value)
    except (ValueError, TypeError) as error:
        raise Refused(Failure(200, UNREADABLE, f"a vector cannot be read ({short(str(error))})")) from error
