"""Jobs over files: every record's vector is its own text's, what fails is driven again by record, nothing is paid twice."""

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
from pipelines.errors import EmbedderHalted, GateRefused
from pipelines.store import open_store
from tests.fixtures.aws_embedding import Bedrock, SageMaker, aws_error
from tests.fixtures.embedding_services import in_turn, tokens_of, vectors_of
from tests.fixtures.http_stand_in import serving
from tests.fixtures.s3 import Bucket

TEXTS = [f"text number {i}" for i in range(300)]
PROBE_TOKENS = 5


@contextmanager
def by_jobs(server: Bedrock | SageMaker, bucket: Bucket, monkeypatch: pytest.MonkeyPatch,
            **remote: Any) -> Iterator[RemoteEmbedder]:  # fmt: skip
    server.storage = bucket.storage
    bedrock = isinstance(server, Bedrock)
    batch = {"uri": f"{bucket.uri}/batch", "poll_s": 0.01,
             **({"role_arn": "arn:aws:iam::123456789012:role/batch"} if bedrock else {"model_name": "bge", "min_records": 10})}  # fmt: skip
    model = {"model": "amazon.titan-embed-text-v2:0"} if bedrock else {"model": "bge", "endpoint": "embedder"}
    with serving(server) as url:
        for name in ("BEDROCK", "SAGEMAKER"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", url)
        values = {**model, "url": url, "dimensions": 16, "max_tokens": 512, "deadline_s": 10, "batch": batch, **remote}
        settings = {"backend": "bedrock" if bedrock else "sagemaker", "remote": values}
        embedder = open_embedder(EmbedSettings.model_validate(settings), bucket.storage)
        assert isinstance(embedder, RemoteEmbedder)
        yield embedder


def test_a_part_is_one_job_whose_records_find_their_texts_and_whose_tokens_are_counted_once(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Bedrock()
    with by_jobs(server, s3_bucket, monkeypatch) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))  # found, not run again
        assert embedder.account.total.tokens == server.billed == tokens_of(TEXTS) + PROBE_TOKENS
    assert [job["records"] for job in server.jobs] == [300]
    assert server.jobs[0]["roleArn"] == "arn:aws:iam::123456789012:role/batch"
    assert len(server.asked) == 1  # the probe


def test_half_of_the_records_that_fail_are_driven_again_by_another_job_and_the_rest_by_request(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Bedrock(bad=lambda job, text, at: at % 2 == 0)
    with by_jobs(server, s3_bucket, monkeypatch) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert embedder.account.total.tokens == server.billed == tokens_of(TEXTS) + PROBE_TOKENS
    assert [job["records"] for job in server.jobs] == [300, 150]
    assert len(server.asked) == 1 + 75


def test_a_text_that_a_job_and_a_request_refuse_is_named_and_the_others_keep_their_vectors(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS[:150], "poison", *TEXTS[150:]]
    server = Bedrock(bad=lambda job, text, at: "poison" in text)
    with by_jobs(server, s3_bucket, monkeypatch) as embedder, pytest.raises(TextsRefused, match="Malformed") as caught:
        embedder.embed(texts, "document")
    assert list(caught.value.reasons) == [150]
    assert np.array_equal(np.delete(caught.value.vectors, 150, axis=0), vectors_of(TEXTS, 16))


def test_queries_and_small_parts_go_by_request(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Bedrock()
    with by_jobs(server, s3_bucket, monkeypatch) as embedder:
        embedder.embed(TEXTS[:99], "document")
        embedder.embed(TEXTS[:1], "query")
    assert server.jobs == []


def test_records_whose_text_is_not_the_one_that_was_asked_for_are_not_believed(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Bedrock()
    with by_jobs(server, s3_bucket, monkeypatch) as embedder:
        embedder.embed(TEXTS, "document")
        store = open_store(s3_bucket.uri, s3_bucket.storage)
        (output,) = [one.key for one in store.list("") if one.key.endswith("input.jsonl.out")]
        store.put(output, store.get(output).replace(b'"recordId":"00000000007"', b'"recordId":"00000000008"'))
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
    assert "text number 7" in [asked.get("inputText") for asked in server.asked]


def test_a_job_that_fails_as_a_whole_says_why_and_the_next_command_starts_another(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Bedrock(status="Failed")
    with by_jobs(server, s3_bucket, monkeypatch) as embedder:
        with pytest.raises(EmbedderHalted, match=r"brought no vector \(the role may not read the input\)"):
            embedder.embed(TEXTS, "document")
        server.status = "Completed"
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
    assert [job["jobName"].rpartition("-")[2] for job in server.jobs] == ["1", "2"]


def test_a_control_plane_that_throttles_is_asked_again_and_one_that_denies_is_not(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttled = aws_error(429, "ThrottlingException")
    with by_jobs(Bedrock(fault=in_turn(None, throttled, throttled)), s3_bucket, monkeypatch) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
    denied = aws_error(403, "AccessDeniedException", "bedrock:ListModelInvocationJobs")
    with (
        by_jobs(Bedrock(fault=in_turn(None, denied)), s3_bucket, monkeypatch) as embedder,
        pytest.raises(EmbedderHalted, match=r"batch inference of amazon.* refused \(403 .*check the AWS credentials"),
    ):
        embedder.embed(TEXTS[:200], "document")


def test_a_job_of_another_dimension_is_refused(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Bedrock()
    with by_jobs(server, s3_bucket, monkeypatch, model="amazon.titan-embed-text-v1") as embedder:
        server.dimensions = 8
        with pytest.raises(GateRefused, match="gave vectors of 8 dimensions, and 16 are declared"):
            embedder.embed(TEXTS, "document")


def test_a_transform_job_embeds_a_part(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SageMaker()
    with by_jobs(server, s3_bucket, monkeypatch) as embedder:
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
        assert np.array_equal(embedder.embed(TEXTS, "document"), vectors_of(TEXTS, 16))
    (job,) = server.jobs.values()
    assert job["DataProcessing"]["JoinSource"] == "Input"
    assert job["TransformInput"]["SplitType"] == job["TransformOutput"]["AssembleWith"] == "Line"
    assert server.asked == [1]


def test_a_bad_record_costs_its_file_and_is_found_in_smaller_ones(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS[:100], "poison", *TEXTS[100:]]
    server = SageMaker()
    with (
        by_jobs(server, s3_bucket, monkeypatch) as embedder,
        pytest.raises(TextsRefused, match="422 ModelError") as caught,
    ):
        embedder.embed(texts, "document")
    assert list(caught.value.reasons) == [100]
    assert np.array_equal(np.delete(caught.value.vectors, 100, axis=0), vectors_of(TEXTS, 16))
    assert len(server.jobs) == 3


def test_a_transform_that_brings_nothing_twice_halts_the_run(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        by_jobs(SageMaker(broken=True), s3_bucket, monkeypatch) as embedder,
        pytest.raises(EmbedderHalted, match=r"brought no vector \(ClientError: See job logs\)"),
    ):
        embedder.embed(TEXTS, "document")
