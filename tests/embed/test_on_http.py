"""The OpenAI protocol: what is asked, what is taken from an answer, and what is not."""

from __future__ import annotations

import base64
import logging
from email.utils import formatdate
from typing import Any

import numpy as np
import orjson
import pytest

from pipelines.embed.on_http import answer_of, limits_of, retry_after
from pipelines.embed.remote_failures import Refused
from pipelines.errors import EmbedderHalted, GateRefused, SettingsError
from tests.embed.remote_case import DIMENSIONS, embedding
from tests.fixtures.embedding_services import OpenAi, vectors_of
from tests.fixtures.http_stand_in import Reply

TEXTS = [f"text number {i}" for i in range(100)]


def body(*items: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps({"object": "list", "data": list(items), "model": "m", **more})


def item(index: int | None, *numbers: float | None) -> dict[str, Any]:
    return {"embedding": list(numbers), **({} if index is None else {"index": index})}


def test_answers_that_come_in_another_order_give_each_text_its_own_vector() -> None:
    server = OpenAi(DIMENSIONS, shuffle=True)
    with embedding(server) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, DIMENSIONS))
    assert {asked["encoding_format"] for asked in server.asked} == {"base64"}


def test_a_server_that_takes_no_base64_is_asked_for_numbers_from_then_on() -> None:
    server = OpenAi(DIMENSIONS, base64_too=False)
    with embedding(server) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, DIMENSIONS))
    assert server.met[400] == 1


def test_dimensions_are_asked_for_where_the_settings_say_so() -> None:
    server = OpenAi(64)
    with embedding(server, send_dimensions=True) as embedder:
        assert embedder.embed(["a"], "document").shape == (1, DIMENSIONS)
    assert server.asked[0]["dimensions"] == DIMENSIONS


def test_prompts_are_put_before_documents_and_queries() -> None:
    server = OpenAi(DIMENSIONS)
    with embedding(server, document_prompt="passage: ", query_prompt="query: ") as embedder:
        embedder.embed(["a"], "document")
        embedder.embed(["b"], "query")
    assert {"passage: a", "query: b"} <= server.inputs.keys()


def test_tokens_are_counted_as_billed() -> None:
    server = OpenAi(DIMENSIONS)
    with embedding(server) as embedder:
        embedder.embed(TEXTS, "document")
        assert embedder.account.total.tokens == server.billed
        assert (embedder.account.total.texts, embedder.account.total.untold) == (101, 0)


def test_the_key_comes_from_the_environment_and_is_never_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-0123456789")
    caplog.set_level(logging.DEBUG)
    with embedding(OpenAi(DIMENSIONS, key="sk-secret-0123456789"), key_env="MY_KEY") as embedder:
        assert embedder.embed(["a"], "document").any()
    with pytest.raises(EmbedderHalted) as caught, embedding(OpenAi(DIMENSIONS, key="another"), key_env="MY_KEY"):
        pass
    assert "secret" not in str(caught.value) + caplog.text
    assert str(caught.value).endswith(
        "check the environment variable MY_KEY and what it allows. Then run the same command again"
    )
    assert "401 invalid_api_key: Incorrect API key provided: …" in str(caught.value)


def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDDING_API_KEY", raising=False)
    with pytest.raises(EmbedderHalted, match="the environment variable EMBEDDING_API_KEY, which is not set, and what"), \
            embedding(OpenAi(DIMENSIONS, key="some")):  # fmt: skip
        pass


def test_a_key_that_no_header_carries_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_API_KEY", "two words")
    with pytest.raises(SettingsError) as caught, embedding(OpenAi(DIMENSIONS)):
        pass
    assert "EMBEDDING_API_KEY holds no key that a header can carry" in str(caught.value)
    assert "two words" not in str(caught.value)


def test_another_dimension_than_declared_names_both() -> None:
    with pytest.raises(GateRefused, match=r"gave vectors of 8 dimensions, and 16 are declared; set embed\.remote\.dimensions"), \
            embedding(OpenAi(8)):  # fmt: skip
        pass


def test_an_address_that_serves_something_else_says_what_to_check() -> None:
    with pytest.raises(EmbedderHalted, match=r"/v1/embeddings \(model m\) refused \(404 .*check embed\.remote\.model, embed"), \
            embedding(OpenAi(DIMENSIONS, fault=lambda request: Reply(404, {"detail": "Not Found"})), model="m"):  # fmt: skip
        pass


def test_a_redirect_is_not_followed_with_the_key() -> None:
    moved = Reply(308, {}, {"Location": "http://127.0.0.1:9/v1/embeddings"})
    with pytest.raises(EmbedderHalted, match=r"308.*set embed\.remote\.url to the address"), \
            embedding(OpenAi(DIMENSIONS, fault=lambda request: moved)):  # fmt: skip
        pass


def test_a_server_that_is_away_is_named_at_the_deadline() -> None:
    server = OpenAi(DIMENSIONS)
    with pytest.raises(EmbedderHalted, match=r"answered nothing of use for 0.* s .*check that it runs"), \
            embedding(server, address="http://127.0.0.1:9", deadline_s=0.4):  # fmt: skip
        pass


def test_an_account_without_credit_ends_at_once() -> None:
    broke = Reply(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    with pytest.raises(EmbedderHalted, match="has no credit left"), \
            embedding(OpenAi(DIMENSIONS, fault=lambda request: broke)):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([item(0, 1.0), item(2, 1.0)], "2 vectors came for 2 texts, or their indices are wrong"),
        ([item(0, 1.0), item(0, 1.0)], "indices are wrong"),
        ([item(0, 1.0), item(None, 1.0)], "indices are wrong"),
        ([item(0, 1.0)], "1 vectors came for 2 texts"),
        ([item(0, 1.0), item(1, 1.0, 2.0)], "a vector cannot be read"),
        ([item(0), item(1)], "a vector cannot be read"),
        ([{"index": 0, "embedding": "!"}, item(1, 1.0)], "a vector cannot be read"),
    ],
)
def test_an_answer_that_does_not_answer_for_every_text_once_is_refused_with_its_bill(items: Any, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        answer_of(body(*items, usage={"total_tokens": 7}), 2)
    assert caught.value.tokens == 7


@pytest.mark.parametrize("data", [b"", b"<html>", b'{"data": [', b'{"data": {}}', b"[]"])
def test_what_is_no_answer_is_unreadable(data: bytes) -> None:
    with pytest.raises(Refused, match="unreadable_answer"):
        answer_of(data, 1)


def test_numbers_that_are_none_are_nan_and_stay_visible() -> None:
    found = answer_of(b'{"data": [{"index": 0, "embedding": [NaN, 1.0]}, {"index": 1, "embedding": [null, 2.0]}]}', 2)
    assert np.isnan(found.vectors[:, 0]).all()
    assert found.tokens is None


def test_base64_keeps_every_bit() -> None:
    vector = np.array([0.1, -3.5e-8, np.inf], dtype="<f4")
    spelled = base64.b64encode(vector.tobytes()).decode()
    assert answer_of(body({"index": 0, "embedding": spelled}), 1).vectors.tobytes() == vector.tobytes()


def test_rate_limit_headers_are_read_as_openai_writes_them() -> None:
    headers = {"x-ratelimit-limit-requests": "5000", "x-ratelimit-remaining-requests": "4999", "x-ratelimit-reset-requests": "12ms",
               "x-ratelimit-limit-tokens": "160000", "x-ratelimit-remaining-tokens": "976", "x-ratelimit-reset-tokens": "6m0.5s"}  # fmt: skip
    requests, tokens = limits_of(headers)
    assert (requests.most, requests.left, round(requests.whole_in_s, 3)) == (5000, 4999, 0.012)
    assert (tokens.left, tokens.whole_in_s) == (976, 360.5)
    assert limits_of({**headers, "x-ratelimit-reset-requests": "soon"}) == (tokens,)
    assert limits_of({}) == ()


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after": "20", "retry-after-ms": "1500"}) == 1.5
    assert retry_after({"retry-after": formatdate(0, usegmt=True)}) == 0
    assert retry_after({"retry-after": "whenever"}) is None
    assert retry_after({}) is None
