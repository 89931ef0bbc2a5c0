"""Download a model from a hub, once, when its user pins it. Knows no stores; nothing else calls a hub."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.errors import SettingsError, StoreError

_REFERENCE = re.compile(r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[\w./-]+)")
# Never pickles: loading one runs whatever is in it.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]
_UNWANTED = ["onnx/*", "openvino/*"]


def download_from_hub(reference: str, into: Path) -> tuple[Path, str]:
    """The model's folder, somewhere in ``into``, and ``hub:<name>@<commit>``.

    Raises:
        SettingsError: ``reference`` names no revision, or the hub has no such model.
        StoreError: the hub could not be reached.
    """
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise SettingsError(
            f"{reference!r} is no model on a hub; write hub:<name>@<revision>, best with a commit's hash"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = Path(snapshot_download(parts["name"], revision=parts["revision"], cache_dir=into,
                                        allow_patterns=_WANTED, ignore_patterns=_UNWANTED))  # fmt: skip
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise SettingsError(f"embed.model {reference}: {_first_line(error)}; check name and revision") from error
    except Exception as error:  # errors of its HTTP client, of its cache and of offline mode have no common class
        raise StoreError(
            f"embed.model {reference} could not be downloaded ({type(error).__name__}: {_first_line(error)}); pin it where "
            "the hub can be reached (HF_ENDPOINT names another one, HF_HUB_OFFLINE=1 forbids calling any)"
        ) from error
    return folder, f"hub:{parts['name']}@{folder.name}"  # the folder of a snapshot is named by its commit


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
