"""SageMaker endpoints: the container's shape, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pipelines.embed.backends import open_embedder
from pipelines.embed.embedder import TextsRefused
from pipelines.embed.remote_embedder import RemoteEmbedder
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import EmbedderHalted
from tests.fixtures.aws_embedding import SageMaker, aws_error
from tests.fixtures.embedding_services import in_turn, vectors_of
from tests.fixtures.http_stand_in import Reply, serving
from tests.fixtures.s3 import CREDENTIALS, aws_environment

TEXTS = [f"text number {i}" for i in range(120)]


@pytest.fixture(autouse=True)
def credentials() -> Iterator[None]:
    with aws_environment({**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"}):
        yield


@contextmanager
def embedding(server: SageMaker, **remote: Any) -> Iterator[RemoteEmbedder]:
    with serving(server) as url:
        values = {
            "model": "bge",
            "endpoint": "embedder",
            "url": url,
            "dimensions": 16,
            "max_tokens": 512,
            "deadline_s": 20,
            **remote,
        }
        embedder = open_embedder(EmbedSettings.model_validate({"backend": "sagemaker", "remote": values}))
        assert isinstance(embedder, RemoteEmbedder)
        yield embedder


def test_texts_come_back_as_vectors_in_their_order_and_no_tokens_are_told() -> None:
    server = SageMaker()
    with embedding(server) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert (embedder.account.total.tokens, embedder.account.total.untold) == (0, 5)
    assert sorted(server.asked) == [1, 24, 32, 32, 32]


def test_what_the_container_refuses_is_what_counts() -> None:
    server = SageMaker(most_texts=7)
    with embedding(server) as embedder, pytest.raises(TextsRefused, match="422 ModelError: Input validation") as caught:
        embedder.embed([*TEXTS, "poison"], "document")
    assert list(caught.value.reasons) == [120]
    assert np.array_equal(caught.value.vectors[:-1], vectors_of(TEXTS, 16))


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with pytest.raises(EmbedderHalted, match=r"Endpoint other of account .*check embed\.remote\.endpoint and embed\.remote\.region"), \
            embedding(SageMaker(), endpoint="other"):  # fmt: skip
        pass


def test_a_container_that_does_not_pool_is_refused_with_what_to_deploy() -> None:
    with pytest.raises(EmbedderHalted, match=r"a vector per token.*text-embeddings-inference"), \
            embedding(SageMaker(pooled=False)):  # fmt: skip
        pass


def test_answers_that_break_off_and_throttling_are_tried_again() -> None:
    server = SageMaker(fault=in_turn(None, aws_error(400, "ThrottlingException"), Reply(then="reset"),
                                     Reply(200, [[1.0]], then="truncate"), aws_error(503, "ServiceUnavailable")))  # fmt: skip
    with embedding(server) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert (embedder.account.total.refused, embedder.account.total.lost) == (2, 2)
