"""What an object store's error means, and the one policy that retries those which may pass.

Knows obstore's and the file system's errors; knows no keys and no commit rule.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TypeVar

import obstore

from pipelines.backoff import Backoff
from pipelines.clock import SYSTEM, Clock
from pipelines.errors import BackhaulError, Denied, NotFound, SourceChanged, StoreError

T = TypeVar("T")

_SAME_COMMAND = "and run the same command again"
_ERRNO = {
    errno.ENOSPC: f"the disk is full; free some space {_SAME_COMMAND}",
    errno.EDQUOT: f"the quota is used up; free some space {_SAME_COMMAND}",
    errno.EFBIG: f"the file is over this process's limit; raise it (ulimit -f) {_SAME_COMMAND}",
    errno.EROFS: "the file system is read-only; choose another root",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENOTDIR: "a file stands where a folder is needed; remove it or choose another root",
    errno.EISDIR: "a folder stands where a file is needed; remove it or choose another root",
}
_DENIED_ERRNO = (errno.EACCES, errno.EPERM)
_CHECK_POLICY = "check the credentials and policy"
_OTHER_REGION = "the bucket is in another region; set storage.region to it"
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PASSING_STATUS = ("408", "409", "429")
_DENIALS = (PermissionError, obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError)
_UNUSABLE = (ValueError, obstore.exceptions.InvalidPathError, obstore.exceptions.NotSupportedError)


def retry_transient(call: Callable[[], T], uri: str, *, deadline_s: float, clock: Clock = SYSTEM) -> T:
    """Run ``call`` until it answers, with decorrelated jitter between tries, at most ``deadline_s`` seconds.

    Raises:
        NotFound, Denied, SourceChanged: at once; asking again would not help.
        StoreError: at once for what no retry mends, and for what still fails at the deadline.
    """
    backoff, tries = Backoff(deadline_s, clock=clock), 0
    while True:
        tries += 1
        try:
            return call()
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            if final := final_error(error, uri):
                raise final from error
            if not backoff.wait():
                raise StoreError(
                    f"{uri} could not be reached for {deadline_s:g} s, {tries} tries ({reason(error)}); "
                    "check the network and the endpoint, then run the same command again"
                ) from error


def final_error(error: Exception, uri: str) -> BackhaulError | None:
    """The error to raise at once, or None for one that may pass by itself.

    obstore has classes for the plain cases of one object; listings and bulk deletes, and the file system,
    report almost everything as GenericError, where the text alone tells.
    """
    why, code, status = reason(error), _first(_CODE, error), _first(_STATUS, error)
    number = getattr(error, "errno", None) or int(_first(_OS_ERROR, error) or 0)
    if code == "NoSuchBucket":
        return NotFound(f"bucket {_bucket(uri)} does not exist; check its name and storage.endpoint, or make it")
    if isinstance(error, obstore.exceptions.PreconditionError):
        return SourceChanged(f"{uri} changed since it was listed; plan again")
    if isinstance(error, FileNotFoundError | obstore.exceptions.NotFoundError) or status == "404":
        return NotFound(f"{uri} does not exist ({why})")
    if code == "ExpiredToken":
        return Denied(f"access to {uri} was denied: the credentials have expired; renew them {_SAME_COMMAND}")
    if number in _DENIED_ERRNO:
        return Denied(f"access to {uri} was denied ({why}); choose a root this user may write")
    if isinstance(error, _DENIALS) or status in ("401", "403") or code == "AccessDenied":
        return Denied(f"access to {uri} was denied ({why}); {_CHECK_POLICY}")
    if number in _ERRNO:
        return StoreError(f"{uri}: {_ERRNO[number]} ({why})")
    if code == "AuthorizationHeaderMalformed" or "redirect without LOCATION" in why:
        return StoreError(f"{uri}: {_OTHER_REGION} ({why})")
    if isinstance(error, _UNUSABLE) or "Filenames containing trailing" in why:
        return StoreError(f"{uri}: this store cannot hold or read such a key; rename it ({why})")
    if status and status[0] == "4" and status not in _PASSING_STATUS and code != "RequestTimeout":
        return StoreError(f"{uri}: the store refused ({why})")
    return None


def reason(error: BaseException) -> str:
    """The first lines of an obstore error; the rest is a debug dump."""
    text = " ".join(str(error).split("\n\nDebug source", 1)[0].split())
    return text[:300] if text else type(error).__name__


def _first(pattern: re.Pattern[str], error: Exception) -> str | None:
    found = pattern.search(str(error))
    return found[1] if found else None


def _bucket(uri: str) -> str:
    return "/".join(uri.split("/")[:3])
