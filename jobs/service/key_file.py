"""The file of API keys, a line of JSON each: {"id", "sha256", "tenant", "subject", "expires"}. Never holds a key itself.

A key without its line opens nothing: removing the line withdraws it. Knows no token.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from jobs.service.auth import is_name
from pipelines.errors import SettingsError


def _must_be_name(value: str) -> str:
    if not is_name(value):
        raise ValueError("must be a text of 1 to 256 printable characters")
    return value


Name = Annotated[str, AfterValidator(_must_be_name)]


class ApiKey(BaseModel):
    """What the file keeps of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    tenant: Name | None
    subject: Name
    expires: AwareDatetime | None


def must_read_keys(path: Path) -> dict[str, ApiKey]:
    """By hash. Raises SettingsError naming the file and the line."""
    keys, troubles = read_keys(path)
    if troubles:
        raise SettingsError("\n".join(troubles[:5]))
    return keys


def read_keys(path: Path) -> tuple[dict[str, ApiKey], list[str]]:
    """The keys of what can be read, and what is wrong with the rest. Nothing of a line is repeated: it may be a key."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        return {}, [f"{path} cannot be read: {error.strerror}; `backhaul key CONF` makes it with a first key"]
    keys: dict[str, ApiKey] = {}
    ids: set[str] = set()
    troubles = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            key = ApiKey.model_validate_json(line)
        except ValidationError as error:
            troubles.append(f"{path}:{number} is no API key's line: {said(error)}")
            continue
        if key.sha256 in keys or key.id in ids:
            troubles.append(f"{path}:{number} has the id or the hash of a line above; remove one of them")
            continue
        keys[key.sha256] = key
        ids.add(key.id)
    return keys, troubles


def append_key(path: Path, key: ApiKey) -> None:
    """Into the file, which is replaced as a whole; a new one is readable by its owner alone. Two at once wait.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    path = path.resolve()
    try:
        with _alone(path.parent):
            before = b"" if not path.exists() else path.read_bytes()
            if before:
                must_read_keys(path)
            joint = b"\n" if before and not before.endswith(b"\n") else b""
            _replace(path, before + joint + key.model_dump_json().encode() + b"\n")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}; serve.auth.api_keys names it") from error


def said(error: ValidationError) -> str:
    """Which fields are wrong and why, without what stands in them."""
    return "; ".join(
        f"{each['loc'][0] if each['loc'] else 'it'}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def state_of(path: Path) -> tuple[int, ...] | None:
    """Whether the file is another one, or has changed; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def must_be_guarded(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # reading it says so
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(f"{path} can be written by others, who could let anybody in; `chmod 600 {path}`")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, data: bytes) -> None:
    """With the mode and the owner that it had: a service that runs as somebody else must still be able to read it."""
    handle, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            if path.exists():
                before = path.stat()
                os.fchmod(handle, stat.S_IMODE(before.st_mode))
                os.fchown(handle, before.st_uid, before.st_gid)
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
