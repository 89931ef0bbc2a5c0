"""Embeddings by Amazon Bedrock on demand: InvokeModel with the request shapes of Titan and Cohere.

Shapes: Amazon Bedrock user guide, "Amazon Titan Embeddings G1 - Text", "Amazon Titan Text Embeddings V2" and "Cohere
Embed". Billed tokens stand in the header ``x-amzn-bedrock-input-token-count`` or in the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pipelines.embed.aws_service import CREDENTIALS, aws_client, refusals
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.on_http import stacked
from pipelines.embed.remote_failures import INCOMPLETE, UNREADABLE, Failure, Refused, short
from pipelines.embed.remote_settings import RemoteSettings
from pipelines.embed.service import Answer
from pipelines.errors import SettingsError
from pipelines.space import Space

_TOKENS = "x-amzn-bedrock-input-token-count"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How one family of models is asked. ``request`` makes a body of texts, ``rows`` takes the vectors out of one."""

    texts: int
    request: Callable[[Sequence[str], Role, Space], Json]
    rows: Callable[[Mapping[str, Any]], list[Any]]
    tokens: Callable[[Mapping[str, Any]], Any]


def shape_of(model: str) -> Shape:
    """The shape of a model's id, such as ``amazon.titan-embed-text-v2:0``; a region or profile before it says nothing.

    Raises:
        SettingsError: it is none of the families that this version knows.
    """
    for name, shape in _SHAPES.items():
        if name in model:
            return shape
    raise SettingsError(
        f"embed.remote.model {model!r} is no embedding model of Bedrock that this version knows ({', '.join(_SHAPES)}); "
        "write the model's id, and an inference profile or provisioned throughput into embed.remote.endpoint"
    )


class BedrockService:
    def __init__(self, settings: RemoteSettings, space: Space) -> None:
        self._space = space
        self.shape = shape_of(settings.model)
        self._model = settings.endpoint or settings.model
        self._client = aws_client("bedrock-runtime", settings, url=settings.url)
        self.name = f"Bedrock's {self._model} in {self._client.meta.region_name}"
        self.key = CREDENTIALS
        self.texts_per_request = min(settings.texts_per_request or self.shape.texts, self.shape.texts)

    def send(self, texts: Sequence[str], role: Role) -> Answer:
        body = orjson.dumps(self.shape.request(texts, role, self._space))
        with refusals():
            found = self._client.invoke_model(modelId=self._model, body=body, contentType="application/json",
                                              accept="application/json")  # fmt: skip
            data = found["body"].read()
        headers = found["ResponseMetadata"]["HTTPHeaders"]
        return answer_of(data, len(texts), self.shape, headers.get(_TOKENS))


def answer_of(data: bytes, count: int, shape: Shape, told: str | None = None) -> Answer:
    """Vectors of ``count`` texts, in their order; ``told`` is the header's count of tokens. Raises Refused."""
    try:
        value = orjson.loads(data)
        tokens = shape.tokens(value) if told is None else int(told)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(Failure(200, UNREADABLE, f"the answer is not JSON, or breaks off: {data[:80]!r}")) from error
    tokens = tokens if type(tokens) is int else None
    return Answer(rows_of(value, count, shape, tokens), tokens)


def rows_of(value: Any, count: int, shape: Shape, tokens: int | None = None) -> Vectors:
    """float32[count, dimensions] of one answer's JSON. Raises Refused."""
    try:
        rows = shape.rows(value)
        if len(rows) != count:
            raise Refused(Failure(200, INCOMPLETE, f"{len(rows)} vectors came for {count} texts"), tokens=tokens)
        return stacked(rows)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"the answer holds no vectors as this model gives them ({short(repr(error))})"
        raise Refused(Failure(200, UNREADABLE, why), tokens=tokens) from error


def _titan_1(texts: Sequence[str], role: Role, space: Space) -> Json:
    return {"inputText": texts[0]}


def _titan_2(texts: Sequence[str], role: Role, space: Space) -> Json:
    return {"inputText": texts[0], "dimensions": space.dimensions, "normalize": space.normalized}


def _cohere_3(texts: Sequence[str], role: Role, space: Space) -> Json:
    kind = "search_query" if role == "query" else "search_document"
    # NONE: a text that is too long after all is refused, instead of being cut in silence.
    return {"texts": list(texts), "input_type": kind, "truncate": "NONE", "embedding_types": ["float"]}


def _cohere_4(texts: Sequence[str], role: Role, space: Space) -> Json:
    return {**_cohere_3(texts, role, space), "output_dimension": space.dimensions}


def _cohere_rows(value: Mapping[str, Any]) -> list[Any]:
    found = value["embeddings"]
    return list(found["float"] if isinstance(found, dict) else found)  # lists where no type was asked for


def _cohere_tokens(value: Mapping[str, Any]) -> Any:
    return value.get("meta", {}).get("billed_units", {}).get("input_tokens")


def _titan(request: Callable[[Sequence[str], Role, Space], Json]) -> Shape:
    return Shape(1, request, lambda value: [value["embedding"]], lambda value: value.get("inputTextTokenCount"))


_SHAPES = {
    "titan-embed-text-v2": _titan(_titan_2),
    "titan-embed-text-v1": _titan(_titan_1),
    "titan-embed-g1-text": _titan(_titan_1),
    "cohere.embed-v4": Shape(96, _cohere_4, _cohere_rows, _cohere_tokens),
    "cohere.embed-english-v3": Shape(96, _cohere_3, _cohere_rows, _cohere_tokens),
    "cohere.embed-multilingual-v3": Shape(96, _cohere_3, _cohere_rows, _cohere_tokens),
}
