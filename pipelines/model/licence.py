"""Under which licence a model comes: said by the user, by its card, or by its README. Knows no licences."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.embed.cards import ModelCard
from pipelines.errors import SettingsError

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LICENCE = re.compile(r"^license:\s*['\"]?([^'\"\n#]+?)['\"]?\s*(?:#.*)?$", re.MULTILINE)


def licence_of(folder: Path, card: ModelCard | None, said: str | None) -> tuple[str, str]:
    """The licence, and who says so.

    Raises:
        SettingsError: nobody does; whoever copies a model must know.
    """
    if said:
        return said, "--licence"
    if card:
        return card.licence, str((card.model_extra or {}).get("licence_source", "the model's card"))
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    front = _FRONT_MATTER.match(text)
    found = _LICENCE.search(front[1]) if front else None
    if found is None:
        raise SettingsError(
            "the model says nowhere under which licence it comes (README.md has no `license:` in its front matter); look "
            "it up and say it: --licence Apache-2.0"
        )
    return found[1].strip(), "license in the front matter of the model's README.md"
