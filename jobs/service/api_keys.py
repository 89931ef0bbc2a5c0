"""API keys: random secrets, known by their hashes. Knows no header and no HTTP.

A key is 256 random bits. Nobody finds one by trying, however fast a hash is, so plain SHA-256 is right at rest; a slow
one (Argon2, bcrypt) helps where people choose secrets, and here would slow each request and give strangers a way to
keep the service busy. A key is looked up by its hash: how long that takes may depend on the hash, which tells a guesser
nothing of any key.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from jobs.service.auth import Caller, Unauthorized
from jobs.service.key_file import ApiKey, must_be_guarded, must_read_keys, read_keys, said, state_of
from pipelines.clock import SYSTEM, Clock
from pipelines.errors import SettingsError

_PREFIX = "bh_"  # so that scanners of repositories and logs can find a key that leaked
_BYTES = 32
_FORM = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")  # 32 bytes in base64url
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

log = logging.getLogger(__name__)


class ApiKeys:
    """The keys of a file, read again when it changes.

    Raises:
        SettingsError: at first, where the file or a line of it cannot be read, or others could write it. Later, what
            cannot be read counts as removed, and is logged: a mistake must not keep alive what was withdrawn with it.
    """

    def __init__(self, path: str | Path, clock: Clock = SYSTEM) -> None:
        self._path, self._clock = Path(path), clock
        must_be_guarded(self._path)
        self._state = state_of(self._path)
        self._keys = must_read_keys(self._path)

    def caller(self, token: str) -> Caller:
        """Raises Unauthorized."""
        if not _FORM.fullmatch(token):
            raise Unauthorized("the token is no API key of this service", reason="malformed")
        found = self._fresh().get(hash_of(token))
        if found is None:
            raise Unauthorized("the API key is unknown, or was withdrawn; ask for a new one", reason="unknown key")
        if found.expires is not None and found.expires.timestamp() <= self._clock.time():
            raise Unauthorized("the API key has expired; ask for a new one", reason="expired")
        return Caller(found.subject, found.tenant)

    def _fresh(self) -> Mapping[str, ApiKey]:
        state = state_of(self._path)
        if state != self._state:
            self._state = state  # before reading: what changes meanwhile is seen the next time
            self._keys, troubles = read_keys(self._path)
            for trouble in troubles:
                log.error("%s; its key opens nothing until that is mended", trouble)
        return self._keys


def new_key(*, tenant: str | None, subject: str, expires: datetime | None = None) -> tuple[str, ApiKey]:
    """The secret, which is kept nowhere, and what the file keeps of it.

    Raises:
        SettingsError: the tenant or the subject is no name, or the time says no zone.
    """
    secret = _PREFIX + secrets.token_urlsafe(_BYTES)
    try:
        return secret, ApiKey(
            id=secrets.token_hex(6), sha256=hash_of(secret), tenant=tenant, subject=subject, expires=expires
        )
    except ValidationError as error:
        raise SettingsError(said(error)) from None


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def expiry_of(text: str) -> datetime:
    """A day, which is its beginning in UTC, or an instant with its zone. Raises SettingsError."""
    try:
        found = datetime.fromisoformat(f"{text}T00:00Z" if _DAY.fullmatch(text) else text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise SettingsError(f"{text[:40]!r} is no day such as 2030-01-31, and no time such as 2030-01-31T12:00Z")
    return found
