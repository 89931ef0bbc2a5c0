"""What a record of 200 MB costs: it is rejected while it streams by."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

MEGABYTES = 200
SCRIPT = """
import resource, sys
from pipelines.partition import Slice
from pipelines.read.formats import open_reader
from pipelines.read.reader import Broken, SourceSettings
from pipelines.store import open_store

folder, format, *keys = sys.argv[1:]
store, reader = open_store(folder), open_reader(SourceSettings(uri=folder, format=format))
for key in keys:
    found = store.head(key)
    outcomes = [one.cause if isinstance(one, Broken) else "ok" for one in reader.read(store, Slice(key, found.etag, found.size))]
    print(",".join(outcomes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_plain(path: Path, head: bytes, tail: bytes) -> None:
    """``head``, 200 MB of NUL that take no room on the disk, ``tail``."""
    with path.open("wb") as file:
        file.write(head)
        os.truncate(file.fileno(), len(head) + MEGABYTES * 1_000_000)
        file.seek(0, os.SEEK_END)
        file.write(tail)


def write_compressed(path: Path, head: bytes, tail: bytes) -> None:
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else zstandard.open(path, "wb") as file:
        file.write(head)
        for _ in range(MEGABYTES):
            file.write(b"x" * 1_000_000)
        file.write(tail)


@pytest.mark.parametrize(
    ("name", "suffix", "head", "tail", "expected"),
    [
        ("jsonl", ".jsonl", b'{"id": 1}\n{"id": 2, "text": "', b'"}\n{"id": 3}\n', "ok,too_large,ok"),
        ("jsonl", ".jsonl.gz", b'{"id": 1}\n{"id": 2, "text": "', b'"}\n{"id": 3}\n', "ok,too_large,ok"),
        ("jsonl", ".jsonl.zst", b'{"id": 1}\n{"id": 2, "text": "', b'"}\n{"id": 3}\n', "ok,too_large,ok"),
        ("csv", ".csv", b'id,text\n1,a\n2,"', b"", "ok,too_large"),
        ("text", ".txt.gz", b"text ", b"", "too_large"),
    ],
    ids=["jsonl", "gzip", "zstd", "open-quote", "text"],
)
def test_a_record_of_200_megabytes_costs_at_most_64_more(
    tmp_path: Path, name: str, suffix: str, head: bytes, tail: bytes, expected: str
) -> None:
    write = write_plain if suffix.count(".") == 1 else write_compressed
    write(tmp_path / f"large{suffix}", head, tail)
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(suffix).suffix, bytes)
    (tmp_path / f"small{suffix}").write_bytes(pack(head + tail))
    command = [sys.executable, "-c", SCRIPT, tmp_path.as_uri(), name, f"small{suffix}", f"large{suffix}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (_, before), (outcomes, after) = (line.split() for line in done.stdout.splitlines())
    assert outcomes == expected
    assert int(after) - int(before) <= 64 * 1024, f"{(int(after) - int(before)) // 1024} MiB more"
