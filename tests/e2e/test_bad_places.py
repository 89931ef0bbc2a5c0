"""Places that refuse, fill up, die or were tampered with: what the command says, how it exits, and what mends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import COMMAND, PROJECT, Outcome, backhaul_here, environment
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.faulty_s3 import Fault, FaultyS3, faulty_s3
from tests.fixtures.opensearch import Node, delete_indices
from tests.fixtures.s3 import S3Server, aws_environment

NOBODY = 65534
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user and mounting a tmpfs need root")


def _conf(folder: Path, **sections: Any) -> Path:
    """Three objects in three partitions, run in this process."""
    source = folder / "source"
    if not source.exists():
        write_corpus(source, objects=3, documents=60)
    values: dict[str, Any] = {"root": f"file://{folder}/root", "source": f"file://{source}", "engine": {"workers": 0},
                              "partition": {"path": "{doc_type}/**", "by": ["doc_type"]}}  # fmt: skip
    return write_conf(folder / "run.yaml", **{**values, **sections})


def _digests(outcome: Outcome) -> tuple[str, str]:
    assert outcome.code == 0, outcome.err
    return outcome.json["content_digest"], outcome.json["bytes_digest"]


# Denied


@pytest.fixture
def denying(s3_server: S3Server) -> Iterator[FaultyS3]:
    with faulty_s3(s3_server.endpoint) as proxy:
        yield proxy


def _refusals(method: str) -> list[Fault]:
    return [Fault(method, "refuse", 403, "AccessDenied")] * 5


def test_a_source_bucket_that_denies_is_named_with_what_to_check(
    tmp_path: Path, s3_server: S3Server, denying: FaultyS3
) -> None:
    bucket = s3_server.new_bucket()
    denying.faults = [*_refusals("GET"), *_refusals("HEAD")]
    conf = _conf(tmp_path, source=f"{bucket.uri}/papers")
    where = ["--set", f"source.storage.endpoint={denying.endpoint}", "--set", "source.storage.region=us-east-1"]
    outcome = backhaul_here("run", conf, *where)
    assert outcome.code == 1
    assert f"access to {bucket.uri}/papers was denied" in outcome.err
    assert "check the credentials and policy" in outcome.err


def test_a_root_bucket_that_denies_is_named_with_what_to_check(
    tmp_path: Path, s3_server: S3Server, denying: FaultyS3
) -> None:
    bucket = s3_server.new_bucket()
    denying.faults = _refusals("PUT")
    conf = _conf(tmp_path, root=f"{bucket.uri}/state", storage={"endpoint": denying.endpoint, "region": "us-east-1"})
    outcome = backhaul_here("plan", conf)
    assert outcome.code == 1
    assert f"access to {bucket.uri}/state/runs/" in outcome.err
    assert "was denied" in outcome.err
    assert "check the credentials and policy" in outcome.err


def test_without_aws_credentials_the_message_says_what_to_set(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    bare = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_EC2_METADATA_DISABLED": "true"}
    with aws_environment(bare):
        source = backhaul_here("plan", _conf(tmp_path, source="s3://some-bucket/papers"))
        root = backhaul_here("plan", _conf(tmp_path, root="s3://some-bucket/state"))
    for outcome, uri in ((source, "s3://some-bucket/papers"), (root, "s3://some-bucket/state")):
        assert outcome.code == 1
        assert uri.rpartition("/")[0] in outcome.err
        assert "set AWS_PROFILE or AWS_ACCESS_KEY_ID" in outcome.err


# The interpreter may lie where this user may not go, so what a verb imports is imported before.
_AS_NOBODY = f"""
import os, sys
from jobs.main import run_command
run_command(["run", sys.argv[1], "--json"])
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
print(*(run_command(["run", conf]) for conf in sys.argv[2:]))
"""


@pytest.fixture
def open_to_all(tmp_path: Path) -> Iterator[Path]:
    """A folder that any user may enter and read."""
    ways = [tmp_path, *(way for way in tmp_path.parents if way.is_relative_to("/tmp") and way != Path("/tmp"))]
    modes = {way: way.stat().st_mode for way in ways}
    for way in ways:
        way.chmod(0o755)
    yield tmp_path
    for way, mode in modes.items():
        way.chmod(mode)


@NEEDS_ROOT
def test_a_root_that_this_user_may_not_make_or_write_is_denied_and_named(open_to_all: Path) -> None:
    folder = open_to_all
    (folder / "good").mkdir()
    (folder / "locked" / "made").mkdir(mode=0o755, parents=True)
    confs = [_conf(folder / "good")]
    for name in ("made", "unmade"):
        (folder / name).mkdir()
        confs.append(_conf(folder / name, root=f"file://{folder}/locked/{name}"))
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, *map(str, confs)], capture_output=True, text=True,
                          env=environment(), cwd=PROJECT, timeout=120, check=False)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "1 1", done.stderr
    for name in ("made", "unmade"):
        assert f"access to file://{folder}/locked/{name}" in done.stderr
    assert done.stderr.count("choose a root this user may write") == 2
    assert "Traceback" not in done.stderr


# Full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({made.stderr.decode().strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@NEEDS_ROOT
@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_says_so_and_with_more_room_the_same_command_ends_as_if_nothing_had_been(
    tmp_path: Path, small_disk: Path, workers: int
) -> None:
    quiet = _digests(backhaul_here("embed", _conf(tmp_path, embed={"rows_per_part": 8}), "--json"))
    conf = _conf(tmp_path, root=f"file://{small_disk}/root", embed={"rows_per_part": 8}, engine={"workers": workers})
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 1
    assert "the disk is full; free some space and run the same command again" in outcome.err
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    kept = {path: path.stat().st_mtime_ns for path in small_disk.rglob("*.parquet")}
    assert kept, "something was embedded before the disk was full"
    assert _digests(backhaul_here("embed", conf, "--json")) == quiet
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    status = backhaul_here("status", conf, "--json").json
    assert status["parts_recomputed"] <= 2 * max(1, workers) * 3


# Killed


@pytest.mark.opensearch
def test_opensearch_killed_in_the_middle_of_a_load_and_back_ends_exact(
    tmp_path: Path, private_opensearch: Node
) -> None:
    node, corpus = private_opensearch, "killed-in-a-load"
    source = write_corpus(tmp_path / "source", objects=12, documents=400)
    conf = _conf(tmp_path, corpus=corpus, source=f"file://{source}", engine={"workers": 1}, embed={"dimensions": 128},
                 partition={"target_tokens": 8000},
                 index={"target": "opensearch", "url": node.url, "replicas": 0, "max_bulk_bytes": 1 << 16})  # fmt: skip
    try:
        assert backhaul_here("embed", conf).code == 0
        load = subprocess.Popen([*COMMAND, "run", str(conf), "--json"], env=environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("root/runs/*/loads/*/*/*.json")) and load.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        node.kill()
        time.sleep(1)
        node.start()
        out, err = load.communicate(timeout=200)
        if load.returncode:  # what it may do, too: say where, why and how to go on
            assert load.returncode == 1, err
            assert node.url in err
            assert "backhaul load" in err or "the same command" in err
        done = backhaul_here("run", conf, "--json")
        assert done.code == 0, (done.err, out, err)
        assert done.json["rows"] == 4800
        assert backhaul_here("verify", conf).code == 0
    finally:
        delete_indices(node.url, corpus)


# Gone or damaged


def test_a_source_of_one_object_that_is_gone_says_plan_again(tmp_path: Path) -> None:
    write_corpus(tmp_path / "source", objects=1, documents=5)
    (one,) = (tmp_path / "source").glob("*/*")
    conf = _conf(tmp_path, source=f"file://{one}", partition={"path": None, "by": []})
    assert backhaul_here("plan", conf).code == 0
    one.rename(one.with_suffix(".gone"))
    outcome = backhaul_here("run", conf)
    assert outcome.code == 1
    assert str(one) in outcome.err
    assert "source changed since planning; plan again" in outcome.err
    anew = backhaul_here("plan", conf, "--replan")
    assert anew.code == 1
    assert f"{one} does not exist" in anew.err


def test_a_source_folder_that_is_gone_says_plan_again(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    (tmp_path / "source").rename(tmp_path / "moved")
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 1
    assert "source changed since planning; plan again" in outcome.err


def test_a_failure_whose_cause_was_mended_is_retried_and_the_run_goes_on(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    (one,) = (tmp_path / "source" / "faq").glob("*")
    away = tmp_path / one.name
    one.rename(away)
    assert backhaul_here("run", conf).code == 1
    failures = backhaul_here("failures", conf, "--json").json["partitions"]
    assert [(group["stage"], group["cause"], group["count"]) for group in failures] == [("embed", "SourceChanged", 1)]
    assert "faq" in failures[0]["examples"][0]["message"]
    away.rename(one)
    retried = backhaul_here("retry", conf, "--cause", "SourceChanged", "--json")
    assert retried.code == 0, retried.err
    assert retried.json["retried"] == {"embed": 1}
    assert backhaul_here("failures", conf, "--json").json["partitions"] == []
    done = backhaul_here("run", conf, "--json")
    assert (done.code, done.json["rows"], done.json["partitions_embedded"]) == (0, 180, 0)


def _one(folder: Path, pattern: str) -> Path:
    return sorted((folder / "root").glob(f"runs/*/{pattern}"))[0]


def test_a_damaged_manifest_is_named_and_once_deleted_written_again_without_embedding(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    before = _digests(backhaul_here("run", conf, "--json"))
    manifest = _one(tmp_path, "manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows":', b'"rows":1', 1))
    for verb in ("run", "status", "load", "verify"):
        outcome = backhaul_here(verb, conf)
        assert outcome.code == 3, (verb, outcome.err)
        assert f"{manifest} is damaged" in outcome.err
        assert "Delete it" in outcome.err
    manifest.unlink()
    again = backhaul_here("run", conf, "--json")
    assert _digests(again) == before
    assert again.json["partitions_embedded"] == 0


@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
def test_a_damaged_part_is_named_and_the_advice_that_is_given_mends_it(tmp_path: Path, how: str) -> None:
    conf = _conf(tmp_path)
    before = _digests(backhaul_here("embed", conf, "--json"))
    part = _one(tmp_path, "parts/*/*.parquet")
    data = part.read_bytes()
    part.unlink() if how == "gone" else part.write_bytes(data[:-9] if how == "cut" else data[:-99] + b"x" + data[-98:])
    outcome = backhaul_here("run", conf)
    assert outcome.code == (1 if how == "gone" else 3), outcome.err
    assert part.name in outcome.err
    run = part.parent.parent.parent
    advised = [f"receipts/embed/{part.parent.name}.json", "manifest.json"]
    assert [name for name in advised if f"runs/{run.name}/{name}" not in outcome.err] == []
    for name in advised:
        (run / name).unlink()
    assert _digests(backhaul_here("embed", conf, "--json")) == before
    done = backhaul_here("run", conf, "--json")
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["plan.json", "objects.parquet"])
def test_a_damaged_plan_is_named_and_replan_mends_it(tmp_path: Path, name: str) -> None:
    conf = _conf(tmp_path)
    assert backhaul_here("embed", conf).code == 0
    damaged = _one(tmp_path, name)
    damaged.write_bytes(damaged.read_bytes()[:40])
    outcome = backhaul_here("status", conf)
    assert outcome.code == 3, outcome.err
    assert f"{damaged} is damaged" in outcome.err
    assert "--replan" in outcome.err
    damaged.unlink()
    done = backhaul_here("run", conf, "--replan", "--json")
    assert done.code == 0, done.err
    assert done.json["partitions_embedded"] == 0


def test_a_damaged_receipt_is_named_and_once_deleted_its_partition_runs_again(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    before = _digests(backhaul_here("embed", conf, "--json"))
    _one(tmp_path, "manifest.json").unlink()
    receipt = _one(tmp_path, "receipts/embed/*.json")
    receipt.write_bytes(receipt.read_bytes()[:50])
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 3, outcome.err
    assert f"{receipt} is damaged" in outcome.err
    receipt.unlink()
    assert _digests(backhaul_here("embed", conf, "--json")) == before
