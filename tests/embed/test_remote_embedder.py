"""A remote embedder while its service misbehaves: every text gets its own vector or a reason, and the bill is exact."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pipelines.embed.embedder import TextsRefused
from pipelines.errors import EmbedderHalted, GateRefused
from tests.embed.remote_case import DIMENSIONS, embedding
from tests.fixtures.embedding_services import Bucket, OpenAi, in_turn, tokens_of, vectors_of
from tests.fixtures.http_stand_in import Reply, Request
from tests.fixtures.service_faults import SeededFaults

TEXTS = [f"text number {i} " + "word " * (i % 7) for i in range(240)]


def spoiled(request: Request) -> Reply | None:
    """As OpenAI refuses a request for one of its texts."""
    if any("poison" in text for text in request.json["input"]):
        return Reply(400, {"error": {"message": "'$.input' is invalid", "type": "invalid_request_error"}})
    return None


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_mismatched_whatever_three_of_ten_requests_meet(seed: int) -> None:
    faults = SeededFaults(seed, 0.3, late_s=0.6)
    server = OpenAi(DIMENSIONS, shuffle=True, fault=faults)
    with embedding(server, texts_per_request=4, timeout_s=0.3) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, DIMENSIONS))
        spent = embedder.account.total
    assert len(faults.met) > 6
    assert spent.texts == len(TEXTS) + 1
    assert spent.tokens == server.billed
    assert spent.requests == sum(faults.met.values())


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 40))
def test_nothing_is_lost_or_mismatched_whatever_half_of_the_requests_meet(seed: int) -> None:
    server = OpenAi(DIMENSIONS, shuffle=True, fault=SeededFaults(seed, 0.5, late_s=0.6))
    with embedding(server, texts_per_request=8, timeout_s=0.3, deadline_s=120) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, DIMENSIONS))
        assert embedder.account.total.tokens == server.billed


def test_a_storm_of_429_is_weathered_and_costs_nothing() -> None:
    server = OpenAi(DIMENSIONS, requests=Bucket(40, 5))
    with embedding(server, texts_per_request=4) as embedder:
        assert np.array_equal(embedder.embed(TEXTS[:160], "document"), vectors_of(TEXTS[:160], DIMENSIONS))
        spent = embedder.account.total
    assert server.met[429] == spent.refused > 0
    assert (spent.tokens, server.inputs.total()) == (server.billed, 161)


def test_a_request_with_too_many_texts_is_halved_until_it_fits() -> None:
    server = OpenAi(DIMENSIONS, most_texts=5)
    with embedding(server, texts_per_request=32) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, DIMENSIONS))
    assert max(asked["input"] for asked in server.asked) <= 5


def test_texts_that_the_service_refuses_are_found_and_the_others_keep_their_vectors() -> None:
    texts = [*TEXTS[:50], "poison one", *TEXTS[50:100], "poison two"]
    server = OpenAi(DIMENSIONS, fault=spoiled)
    with (
        embedding(server) as embedder,
        pytest.raises(TextsRefused, match=r"^2 of 102 texts .*'\$\.input' is invalid") as caught,
    ):
        embedder.embed(texts, "document")
    assert sorted(caught.value.reasons) == [50, 101]
    good = [i for i in range(102) if i not in (50, 101)]
    assert np.array_equal(caught.value.vectors[good], vectors_of([texts[i] for i in good], DIMENSIONS))
    assert server.inputs.total() == 101  # none was paid for twice; the probe is one of them


def test_half_of_a_surrogate_pair_is_refused_without_asking() -> None:
    server = OpenAi(DIMENSIONS)
    with embedding(server) as embedder, pytest.raises(TextsRefused, match="is no Unicode"):
        embedder.embed(["good", "bad \ud83d"], "document")
    assert set(server.inputs) == {"A text like any other.", "good"}


def test_a_service_that_refuses_every_text_stops_the_run_before_it_is_asked_for_all() -> None:
    server = OpenAi(DIMENSIONS, fault=spoiled)
    with (
        embedding(server) as embedder,
        pytest.raises(EmbedderHalted, match=r"refused every one of 32 texts.*max_tokens"),
    ):
        embedder.embed([f"poison {i}" for i in range(2000)], "document")
    assert server.met[400] < 400


def test_one_text_that_always_fails_the_server_is_refused_when_another_is_taken_at_the_deadline() -> None:
    def broken(request: Request) -> Reply | None:
        return Reply(500, {"error": {"message": "assert"}}) if "crash" in request.json["input"] else None

    server = OpenAi(DIMENSIONS, fault=broken)
    with (
        embedding(server, deadline_s=1.0) as embedder,
        pytest.raises(
            TextsRefused, match=r"1 of 241 texts .*failed alone for .* while another was taken \(500"
        ) as caught,
    ):
        embedder.embed([*TEXTS, "crash"], "document")
    assert np.array_equal(caught.value.vectors[:-1], vectors_of(TEXTS, DIMENSIONS))


def test_a_service_that_falls_silent_halts_the_run_at_the_deadline() -> None:
    gone = threading.Event()
    server = OpenAi(DIMENSIONS, fault=lambda request: Reply(500, {"error": "down"}) if gone.is_set() else None)
    with embedding(server, deadline_s=1.0) as embedder:
        gone.set()
        with pytest.raises(EmbedderHalted, match=r"answered nothing of use for .*500.*Then run the same command again"):
            embedder.embed(TEXTS, "document")


def test_an_answer_of_another_dimension_in_the_middle_of_a_run_is_refused() -> None:
    server = OpenAi(DIMENSIONS)
    with embedding(server) as embedder:
        server.dimensions = 8
        with pytest.raises(GateRefused, match="vectors of 8 dimensions"):
            embedder.embed(TEXTS, "document")


def test_vectors_that_are_not_normalised_as_declared_are_refused_at_the_start() -> None:
    long = Reply(200, {"data": [{"index": 0, "embedding": [2.0] + [0.0] * 15}]})
    with pytest.raises(GateRefused, match=r"length 2, .*set embed\.remote\.normalized: false"), \
            embedding(OpenAi(DIMENSIONS, fault=in_turn(long))):  # fmt: skip
        pass
    with embedding(OpenAi(DIMENSIONS, fault=in_turn(long)), normalized=False) as embedder:
        assert not embedder.space.normalized


def test_a_text_over_the_limit_is_sent_as_far_as_it_fits_in_whole_words() -> None:
    server = OpenAi(DIMENSIONS)
    with embedding(server, max_tokens=10) as embedder:
        embedder.embed(["one two three four five six seven eight nine ten eleven", "x" * 1000], "document")
    sent = set(server.inputs) - {"A text like any other."}
    assert sent == {"one two three four five six", "x" * 32}


def test_its_maker_says_that_it_promises_no_bits_and_its_space_is_what_was_declared() -> None:
    with embedding(OpenAi(DIMENSIONS), revision="2026-01") as embedder:
        assert not embedder.maker.reproducible
        assert embedder.maker.versions == (("service's model", "some-model"),)
        assert embedder.space.weights == "declared http:some-model@2026-01"
        assert embedder.embed([], "document").shape == (0, DIMENSIONS)


def test_the_bill_of_one_call_is_that_of_its_texts() -> None:
    with embedding(OpenAi(DIMENSIONS)) as embedder:
        before = embedder.account.total.tokens
        embedder.embed(TEXTS, "document")
        assert embedder.account.total.tokens - before == tokens_of(TEXTS)


def test_an_answer_that_is_thrown_away_was_billed_all_the_same() -> None:
    short = Reply(200, {"data": [{"index": 0, "embedding": [1.0] + [0.0] * 15}], "usage": {"total_tokens": 77}})
    server = OpenAi(DIMENSIONS, fault=in_turn(None, short))
    with embedding(server) as embedder:
        assert np.array_equal(embedder.embed(TEXTS[:4], "document"), vectors_of(TEXTS[:4], DIMENSIONS))
        assert embedder.account.total.tokens == server.billed + 77
