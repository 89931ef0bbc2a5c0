"""Bedrock on demand: the shapes of each family, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pipelines.embed.backends import open_embedder, space_of
from pipelines.embed.embedder import TextsRefused
from pipelines.embed.remote_embedder import RemoteEmbedder
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import EmbedderHalted, GateRefused, SettingsError
from tests.fixtures.aws_embedding import Bedrock, aws_error
from tests.fixtures.embedding_services import Bucket, vectors_of
from tests.fixtures.http_stand_in import Reply, serving
from tests.fixtures.s3 import CREDENTIALS, aws_environment

TITAN_2, TITAN_1, COHERE = "amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v1", "cohere.embed-english-v3"
TEXTS = [f"text number {i}" for i in range(120)]


@pytest.fixture(autouse=True)
def credentials() -> Iterator[None]:
    with aws_environment({**CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"}):
        yield


def bedrock_settings(url: str, model: str = TITAN_2, **remote: Any) -> EmbedSettings:
    values = {"model": model, "url": url, "dimensions": 16, "max_tokens": 512, "deadline_s": 20, **remote}
    return EmbedSettings.model_validate({"backend": "bedrock", "remote": values})


@contextmanager
def embedding(server: Bedrock, model: str = TITAN_2, **remote: Any) -> Iterator[RemoteEmbedder]:
    with serving(server) as url:
        embedder = open_embedder(bedrock_settings(url, model, **remote))
        assert isinstance(embedder, RemoteEmbedder)
        yield embedder


@pytest.mark.parametrize(
    ("model", "asked", "per_request"),
    [
        (TITAN_2, {"inputText": TEXTS[0], "dimensions": 16, "normalize": True}, 1),
        (TITAN_1, {"inputText": TEXTS[0]}, 1),
        (COHERE, {"texts": TEXTS[:96], "input_type": "search_document", "truncate": "NONE", "embedding_types": ["float"]}, 96),
        ("us.cohere.embed-v4:0", {"texts": TEXTS[:96], "input_type": "search_document", "truncate": "NONE",
                                  "embedding_types": ["float"], "output_dimension": 16}, 96),
    ],
)  # fmt: skip
def test_each_family_is_asked_in_its_own_shape(model: str, asked: dict[str, Any], per_request: int) -> None:
    server = Bedrock()
    with embedding(server, model) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert embedder.account.total.tokens == server.billed
    assert {"model": model, **asked} in server.asked
    assert len(server.asked) == 1 + -(-len(TEXTS) // per_request)


def test_a_query_is_a_query_to_cohere() -> None:
    server = Bedrock()
    with embedding(server, COHERE) as embedder:
        embedder.embed(["a"], "query")
    assert server.asked[-1]["input_type"] == "search_query"


def test_an_inference_profile_is_what_is_asked_and_the_model_is_whose_space_it_is() -> None:
    server = Bedrock()
    with embedding(server, endpoint="eu.amazon.titan-embed-text-v2:0") as embedder:
        embedder.embed(["a"], "document")
        assert embedder.space.weights == f"declared bedrock:{TITAN_2}"
    assert server.asked[-1]["model"] == "eu.amazon.titan-embed-text-v2:0"


def test_tokens_stand_in_the_body_where_no_header_tells_them_and_are_untold_where_nothing_does() -> None:
    server = Bedrock(header=False)
    with embedding(server) as embedder:
        embedder.embed(TEXTS[:5], "document")
        assert embedder.account.total.tokens == server.billed
    with embedding(Bedrock(header=False), COHERE) as embedder:
        assert embedder.account.total.untold == 1


def test_throttling_is_weathered_and_every_text_keeps_its_vector() -> None:
    server = Bedrock(tokens=Bucket(400, 40))
    with embedding(server) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert embedder.account.total.tokens == server.billed
    assert server.met[429] > 0


def test_a_text_that_cohere_refuses_is_found_by_halving() -> None:
    with embedding(Bedrock(), COHERE) as embedder, pytest.raises(TextsRefused, match="ValidationException") as caught:
        embedder.embed([*TEXTS[:40], "poison", *TEXTS[40:]], "document")
    assert list(caught.value.reasons) == [40]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (aws_error(403, "AccessDeniedException", "no model access"), r"Bedrock's amazon.titan.* in us-east-1 refused \(403 Acc.*"
         r"no model access\); check the AWS credentials \(AWS_PROFILE"),
        (aws_error(403, "ExpiredTokenException", "expired"), "the credentials have expired; renew them"),
        (aws_error(404, "ResourceNotFoundException", "end of life"), r"check embed\.remote\.model.*that the model is enabled"),
        (Reply(200, b'{"embedding": [0.1,'), "answered nothing of use.*unreadable_answer"),
        (Reply(200, {"inputTextTokenCount": 3}), "answered nothing of use.*no vectors as this model gives them"),
    ],
)  # fmt: skip
def test_what_stops_a_run_says_why_and_what_to_do(reply: Reply, says: str) -> None:
    with pytest.raises(EmbedderHalted, match=says), embedding(Bedrock(fault=lambda request: reply), deadline_s=0.3):
        pass


def test_dimensions_that_a_model_does_not_give_are_told_in_its_words() -> None:
    refusal = aws_error(400, "ValidationException", "16 is not one of 256, 512, 1024")
    with pytest.raises(GateRefused, match=r"does not take a plain text \(400 Validation.*16 is not one of"), \
            embedding(Bedrock(fault=lambda request: refusal)):  # fmt: skip
        pass


def test_missing_credentials_say_what_to_set(tmp_path: Any) -> None:
    nowhere = {"AWS_CONFIG_FILE": str(tmp_path / "a"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "b"),
               "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    with aws_environment(nowhere):
        for name in CREDENTIALS:
            nowhere.pop(name, None)
        import os

        os.environ.pop("AWS_ACCESS_KEY_ID", None)
        with pytest.raises(EmbedderHalted, match="set AWS_PROFILE or AWS_ACCESS_KEY_ID where the workers run"), \
                embedding(Bedrock()):  # fmt: skip
            pass


def test_a_model_of_an_unknown_family_is_a_settings_error_that_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'some.model' is no embedding model of Bedrock.*titan-embed-text-v2"):
        open_embedder(bedrock_settings("http://127.0.0.1:9", "some.model"))


def test_its_space_needs_no_service() -> None:
    assert space_of(bedrock_settings("http://127.0.0.1:9")).dimensions == 16
