"""A new API key of the query service: its hash into the file, itself to whoever asked, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.service.api_keys import expiry_of, new_key
from jobs.service.auth import AuthSettings
from jobs.service.key_file import append_key
from pipelines.clock import SYSTEM
from pipelines.errors import SettingsError


def add_key(auth: AuthSettings, *, tenant: str | None, subject: str, expires: str | None) -> dict[str, Any]:
    """``key`` is what its holder sends; it cannot be shown again.

    Raises:
        SettingsError: the settings name no file, or would not let such a key in.
    """
    if auth.api_keys is None:
        raise SettingsError("serve.auth.api_keys names no file; set it, and serve.auth.method to api_keys")
    if tenant is None and not auth.tenantless:
        raise SettingsError("without --tenant the key would see the rows of every tenant; name one, or set "
                            "serve.auth.tenantless")  # fmt: skip
    until = None if expires is None else expiry_of(expires)
    if until is not None and until.timestamp() <= SYSTEM.time():
        raise SettingsError(f"--expires {expires} has passed")
    secret, kept = new_key(tenant=tenant, subject=subject, expires=until)
    append_key(Path(auth.api_keys), kept)
    return {"key": secret, "id": kept.id, "tenant": tenant, "subject": subject, "file": auth.api_keys,
            "expires": until and until.isoformat()}  # fmt: skip
