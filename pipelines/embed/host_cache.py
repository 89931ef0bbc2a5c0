"""Files of the object store on this host: downloaded once, whoever asks and however many ask at once. Knows no models."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import GateRefused, StoreError
from pipelines.store import Object, Store

_POLL_S = 0.2
_WAIT_S = 3600.0  # a model of gigabytes over a slow line


def fetch_once(store: Store, objects: list[Object], name: str, *, digests: Mapping[str, str] | None = None,
               wait_s: float = _WAIT_S) -> Path:  # fmt: skip
    """The folder with these objects under their keys, in this user's cache. It appears by one rename, complete.

    The first to ask downloads, the others wait for its lock, which the kernel takes back from one that dies; the
    next then begins anew.

    Args:
        name: names the folder, and decides its content.
        digests: SHA-256 that objects must have, by key.

    Raises:
        GateRefused: an object has another digest.
        StoreError: the store refused, the cache has no room, or who downloads was not done within ``wait_s`` seconds.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backhaul"
    folder = home / "models" / name
    if folder.exists():
        return folder
    try:
        for place in (home / "models", home / "locks"):
            place.mkdir(parents=True, exist_ok=True)
        with _locked(home / "locks" / name, wait_s):
            if not folder.exists():  # whoever had the lock before may have been done
                _download(store, objects, folder, digests or {})
    except OSError as error:
        raise StoreError(
            f"{store.uri} could not be copied to {folder} ({error}); make room there, or set XDG_CACHE_HOME"
        ) from error
    return folder


@contextmanager
def _locked(file: Path, wait_s: float) -> Iterator[None]:
    """The lock file stays: who unlinked it would let two in, one holding the old file and one a new one."""
    deadline = time.monotonic() + wait_s
    with file.open("wb") as opened:
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"another process of this host has been downloading for {wait_s:.0f} s (it holds {file}); "
                        "look what keeps it, or end it and run the command again"
                    ) from None
                time.sleep(_POLL_S)
        yield  # closing the file gives the lock back


def _download(store: Store, objects: list[Object], to: Path, digests: Mapping[str, str]) -> None:
    for left in to.parent.glob(f".{to.name}-*"):  # by one that died: under the lock nobody else is at it
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as temporary:
        for found in objects:
            path = Path(temporary, "whole", *(part for part in found.key.split("/") if part not in ("", ".", "..")))
            path.parent.mkdir(parents=True, exist_ok=True)
            sha = hashlib.sha256()
            with path.open("wb") as file:
                for block in store.stream(found.key, if_match=found.etag or None):
                    file.write(block)
                    sha.update(block)
            expected = digests.get(found.key)
            if expected not in (None, sha.hexdigest()):
                raise GateRefused(
                    f"{store.uri}/{found.key} digest expected {expected}, found {sha.hexdigest()}: it is not the file that "
                    "was pinned; set embed.model to where it came from, and pin it again: `backhaul model pin CONF`"
                )
        os.rename(Path(temporary, "whole"), to)
