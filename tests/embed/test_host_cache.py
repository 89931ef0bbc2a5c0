"""What several workers of one host need is downloaded by one of them, and by the next if that one dies."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.digest import digest_bytes
from pipelines.embed.host_cache import fetch_once
from pipelines.errors import GateRefused, StoreError
from pipelines.store import Object, ObjectStore, open_store
from tests.e2e.command import environment
from tests.fixtures.faulty_s3 import Fault, FaultyS3, faulty_s3
from tests.fixtures.s3 import Bucket

FILES = {"config.json": b"{}", "a/weights": bytes(range(256)) * 20_000}
FETCH = """
    import sys
    from pipelines.embed.host_cache import fetch_once
    from pipelines.storage import StorageSettings
    from pipelines.store import open_store
    uri, endpoint, name = sys.argv[1:]
    store = open_store(uri, StorageSettings(endpoint=endpoint, region="us-east-1", deadline_s=60))
    print(fetch_once(store, sorted(store.list(), key=lambda o: o.key), name), flush=True)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "backhaul"


@pytest.fixture
def bucket(s3_bucket: Bucket) -> Bucket:
    store = open_store(f"{s3_bucket.uri}/model", s3_bucket.storage)
    for key, data in FILES.items():
        store.put(key, data)
    return s3_bucket


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FaultyS3]:
    with faulty_s3(bucket.endpoint) as running:
        yield running


def fetching(bucket: Bucket, endpoint: str, name: str = "name") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(FETCH), f"{bucket.uri}/model", endpoint, name]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)


def gets(proxy: FaultyS3, bucket: Bucket) -> Counter[str]:
    """Downloads by key."""
    inside = f"/{bucket.name}/model/"
    return Counter(
        path.removeprefix(inside) for method, path in proxy.seen if method == "GET" and path.startswith(inside)
    )


def objects(store: ObjectStore) -> list[Object]:
    return sorted(store.list(), key=lambda found: found.key)


def test_four_processes_at_once_download_each_file_once(bucket: Bucket, proxy: FaultyS3, cache: Path) -> None:
    processes = [fetching(bucket, proxy.endpoint) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert answers == {str(cache / "models" / "name")}
    assert gets(proxy, bucket) == Counter(FILES.keys())
    assert {name: (cache / "models" / "name" / name).read_bytes() for name in FILES} == FILES
    assert [path.name for path in (cache / "models").iterdir()] == ["name"]


def test_when_the_one_that_downloads_is_killed_the_next_does_it(bucket: Bucket, proxy: FaultyS3, cache: Path) -> None:
    proxy.faults.append(Fault("GET", "hang", after=2))  # the listing and one file are answered, the other hangs
    first = fetching(bucket, proxy.endpoint)
    deadline = time.monotonic() + 30
    while sum(gets(proxy, bucket).values()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = fetching(bucket, proxy.endpoint)
    time.sleep(1)
    assert second.poll() is None  # it waits for the first
    first.kill()
    first.communicate(timeout=10)
    assert second.communicate(timeout=60)[0].strip() == str(cache / "models" / "name")
    assert (cache / "models" / "name" / "a" / "weights").read_bytes() == FILES["a/weights"]
    assert [path.name for path in (cache / "models").iterdir()] == ["name"]  # nothing half done is left


def test_who_waits_for_too_long_says_for_whom(bucket: Bucket, proxy: FaultyS3, cache: Path) -> None:
    proxy.faults.append(Fault("GET", "hang", after=2))
    first = fetching(bucket, proxy.endpoint)
    store = open_store(f"{bucket.uri}/model", bucket.storage)
    try:
        deadline = time.monotonic() + 30
        while sum(gets(proxy, bucket).values()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(StoreError, match="another process of this host has been downloading"):
            fetch_once(store, objects(store), "name", wait_s=0.3)
    finally:
        first.kill()
        first.communicate(timeout=10)


def test_a_file_of_another_digest_is_refused_and_leaves_nothing(bucket: Bucket, cache: Path) -> None:
    store = open_store(f"{bucket.uri}/model", bucket.storage)
    with pytest.raises(GateRefused, match=f"config.json digest expected {'0' * 64}, found {digest_bytes(b'{}')}"):
        fetch_once(store, objects(store), "name", digests={"config.json": "0" * 64})
    assert list((cache / "models").iterdir()) == []


def test_names_that_climb_stay_in_the_folder(bucket: Bucket, cache: Path) -> None:
    class Climbing:
        """Lists what a hostile store might."""

        uri = "s3://hostile"

        def stream(self, key: str, **_: object) -> Iterator[bytes]:
            yield b"x"

    found = replace(Object("k", 1, "", 0), key="../../../outside")
    folder = fetch_once(Climbing(), [found], "hostile")  # type: ignore[arg-type]
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["outside"]
