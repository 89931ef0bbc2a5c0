"""Places that refuse, fill up, die or were tampered with: what the command says, how it exits, and what mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, PROJECT, backhaul_here, environment
from tests.e2e.corpora import write_corpus, write_three_partitions
from tests.fixtures.faulty_s3 import Fault, FaultyS3, faulty_s3
from tests.fixtures.opensearch import Node, delete_indices
from tests.fixtures.s3 import S3Server, aws_environment

NOBODY = 65534
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user and mounting a tmpfs need root")


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
    conf = write_three_partitions(tmp_path, source=f"{bucket.uri}/papers")
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
    conf = write_three_partitions(
        tmp_path, root=f"{bucket.uri}/state", storage={"endpoint": denying.endpoint, "region": "us-east-1"}
    )
    outcome = backhaul_here("plan", conf)
    assert outcome.code == 1
    assert f"access to {bucket.uri}/state/runs/" in outcome.err
    assert "was denied" in outcome.err
    assert "check the credentials and policy" in outcome.err


def test_without_aws_credentials_the_message_says_what_to_set(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    bare = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_EC2_METADATA_DISABLED": "true"}
    with aws_environment(bare):
        source = backhaul_here("plan", write_three_partitions(tmp_path, source="s3://some-bucket/papers"))
        root = backhaul_here("plan", write_three_partitions(tmp_path, root="s3://some-bucket/state"))
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
    confs = [write_three_partitions(folder / "good")]
    for name in ("made", "unmade"):
        (folder / name).mkdir()
        confs.append(write_three_partitions(folder / name, root=f"file://{folder}/locked/{name}"))
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
    quiet = backhaul_here("embed", write_three_partitions(tmp_path, embed={"rows_per_part": 8}), "--json").digests
    conf = write_three_partitions(
        tmp_path,
        root=f"file://{small_disk}/root",
        embed={"rows_per_part": 8},
        # A full disk takes no word of a lease given back, and this process lives on.
        engine={"workers": workers, "lease": {"ttl_s": 3, "max_skew_s": 0}},
    )
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 1
    assert "the disk is full; free some space and run the same command again" in outcome.err
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    kept = {path: path.stat().st_mtime_ns for path in small_disk.rglob("*.parquet")}
    assert kept, "something was embedded before the disk was full"
    assert backhaul_here("embed", conf, "--json").digests == quiet
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    status = backhaul_here("status", conf, "--json").json
    assert status["parts_recomputed"] <= 2 * max(1, workers) * 3


# Killed


@pytest.mark.soak
@pytest.mark.opensearch
def test_opensearch_killed_in_the_middle_of_a_load_and_back_ends_exact(
    tmp_path: Path, private_opensearch: Node
) -> None:
    node, corpus = private_opensearch, "killed-in-a-load"
    source = write_corpus(tmp_path / "source", objects=6, documents=200)
    conf = write_three_partitions(tmp_path, corpus=corpus, source=f"file://{source}", partition={"target_tokens": 4000},
                 index={"target": "opensearch", "url": node.url, "replicas": 0, "max_bulk_bytes": 1 << 16})  # fmt: skip
    try:
        assert backhaul_here("embed", conf).code == 0
        load = subprocess.Popen([*COMMAND, "run", str(conf), "--json"], env=environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("root/runs/*/loads/*/*/*.json")):
            assert load.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        node.kill()
        node.start()
        _, err = load.communicate(timeout=200)
        if load.returncode:  # what it may do, too: say where, and how to go on
            assert load.returncode == 1, err
            assert node.url in err
            assert "backhaul load" in err or "the same command" in err
        done = backhaul_here("run", conf, "--json")  # which verifies what the other has not
        assert (done.code, done.json["rows"]) == (0, 1200), (done.err, err)
        proof = json.loads(next(tmp_path.glob("root/corpora/*/verifications/*/*/*.json")).read_text())
        assert proof["passed"]
    finally:
        delete_indices(node.url, corpus)
