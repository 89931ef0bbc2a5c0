"""What is particular to ``file://`` and ``memory://``: disks that are full, folders that refuse, killed writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import NotFound, SettingsError, StoreError
from pipelines.store import Created, ObjectStore, StorageSettings, open_store

NOBODY = 65534


def test_a_full_disk_says_so_at_once(small_disk: ObjectStore) -> None:
    small_disk.put("before", b"x" * 1000)
    for verb in (small_disk.put, small_disk.create):
        with pytest.raises(StoreError, match=rf"^{small_disk.uri}/a/b: the disk is full; free some space and run"):
            verb("a/b", b"x" * 200_000)
    assert [found.key for found in small_disk.list()] == ["before"]
    small_disk.put("a/b", b"and then there is room")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[ObjectStore]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({made.stderr.decode().strip()})")
    try:
        yield open_store(tmp_path.as_uri(), StorageSettings(deadline_s=300))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_file_over_the_process_limit_says_so(tmp_path: Path) -> None:
    ended = run_python(
        "import resource, sys; from pipelines.store import open_store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "open_store(sys.argv[1]).put('k', b'x' * 2000)",
        tmp_path.as_uri(),
    )
    assert f"StoreError: {tmp_path.as_uri()}/k: the file is over this process's limit" in ended.stderr


_AS_NOBODY = f"""
import os, sys
from pipelines.store import open_store
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
"""


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that others may read and enter, and nobody but root may write."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "secret").write_bytes(b"s")
    (folder / "secret").chmod(0o000)
    folder.chmod(0o555)
    ways = [way for way in tmp_path.parents if way.is_relative_to("/tmp") and way != Path("/tmp")]
    modes = {way: way.stat().st_mode for way in [tmp_path, *ways]}
    for way in modes:
        way.chmod(0o755)
    yield folder
    for way, mode in modes.items():
        way.chmod(mode)
    folder.chmod(0o755)


@pytest.mark.parametrize("verb", ["put('k', b'v')", "create('k', b'v')", "put('a/k', b'v')"])
def test_a_root_that_this_user_may_not_write_is_denied(locked: Path, verb: str) -> None:
    ended = run_python(f"{_AS_NOBODY}\nopen_store(sys.argv[1]).{verb}", locked.as_uri())
    assert f"Denied: access to {locked.as_uri()}/" in ended.stderr
    assert "choose a root this user may write" in ended.stderr


def test_a_root_that_this_user_may_not_make_is_denied(locked: Path) -> None:
    ended = run_python(f"{_AS_NOBODY}\nopen_store(sys.argv[1] + '/new', create=True)", locked.as_uri())
    assert f"Denied: access to {locked.as_uri()}/new was denied" in ended.stderr


def test_a_source_that_this_user_may_not_read_is_denied(locked: Path) -> None:
    ended = run_python(f"{_AS_NOBODY}\nopen_store(sys.argv[1]).get('secret')", locked.as_uri())
    assert f"Denied: access to {locked.as_uri()}/secret was denied" in ended.stderr


def test_what_a_killed_writer_leaves_is_not_listed_and_in_nobodys_way(tmp_path: Path) -> None:
    program = "import sys; from pipelines.store import open_store\n"
    program += "store = open_store(sys.argv[1]); data = bytes(1 << 28)\n"
    program += "print('ready', flush=True); store.create('k', data)"
    leftovers: list[Path] = []
    for _ in range(10):
        writer = subprocess.Popen([sys.executable, "-c", program, tmp_path.as_uri()], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while writer.poll() is None and not (leftovers := list(tmp_path.iterdir())):
            time.sleep(0)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if not (tmp_path / "k").exists():
            break
        (tmp_path / "k").unlink()  # it was faster than the signal
    assert leftovers, "the writer left something"
    store = open_store(tmp_path.as_uri())
    assert [found.key for found in store.list()] == []
    assert store.create("k", b"mine") is Created.WON
    assert store.get("k") == b"mine"


def test_a_name_that_looks_like_such_a_leftover_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot hold or read such a key; rename it \(.*#1"):
        open_store(tmp_path.as_uri()).put("report#1", b"v")


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    store.put("a", b"v")
    with pytest.raises(StoreError, match="a/b: a file stands where a folder is needed"):
        store.put("a/b", b"v")


def test_a_folder_is_not_an_object(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    store.put("a/b", b"v")
    with pytest.raises(NotFound, match="/a does not exist"):
        store.get("a")


def test_a_source_folder_must_exist_and_a_root_is_made(tmp_path: Path) -> None:
    uri = (tmp_path / "new" / "folder").as_uri()
    with pytest.raises(NotFound, match=f"{uri} is not a folder"):
        open_store(uri)
    open_store(uri, create=True).put("k", b"v")
    assert (tmp_path / "new/folder/k").read_bytes() == b"v"


def test_a_root_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        open_store((tmp_path / "file" / "root").as_uri(), create=True)


@pytest.mark.parametrize("name", ["with space", "ü", "50%", "a#b", "what?"])
def test_a_folder_of_any_name_is_reached_by_its_uri(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    store = open_store(folder.as_uri(), create=True)
    store.put("k", b"v")
    assert (folder / "k").read_bytes() == b"v"


@pytest.mark.parametrize("uri", ["file://relative/folder", "file://", "s3://", "s3:///key", "memory://", "/tmp/x",
                                 "gs://bucket", "", "s3:/bucket"])  # fmt: skip
def test_anything_else_is_a_settings_error_that_shows_how_to_write_one(uri: str) -> None:
    with pytest.raises(SettingsError, match="write s3://bucket/prefix, file:///folder or memory://name"):
        open_store(uri)


def test_memory_stores_of_one_name_are_one_store() -> None:
    open_store("memory://shared-by-name").put("k", b"v")
    assert open_store("memory://shared-by-name").get("k") == b"v"
    with pytest.raises(NotFound):
        open_store("memory://another-name").get("k")
