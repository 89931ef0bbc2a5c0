"""The text that is embedded, built from a template. Knows which names a template may use, and no tokens.

Not ``str.format``: it would follow attributes of whatever it is given, and stumble over braces in documents.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.document import Document, Scalar

NAMES = ("title", "text", "doc_type", "date", "uri", "tenant")
_METADATA = "metadata."
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def check_template(template: str) -> None:
    """Raises ValueError for a placeholder that no document can fill, or when the text is not among them."""
    found = _PLACEHOLDER.findall(template)
    for name in found:
        if name not in NAMES and not (name.startswith(_METADATA) and name != _METADATA):
            near = difflib.get_close_matches(name, NAMES, n=1)
            advice = f"did you mean {{{near[0]}}}?" if near else f"a declared field is {{metadata.{name or 'name'}}}"
            known = ", ".join(f"{{{name}}}" for name in NAMES)
            raise ValueError(f"template has an unknown placeholder {{{name}}}; {advice} Known: {known}, {{metadata.…}}")
    if "text" not in found:
        raise ValueError("template must contain {text}")


def metadata_names(template: str) -> tuple[str, ...]:
    """The metadata fields that a template uses, which ``source.fields.metadata`` must declare."""
    names = _PLACEHOLDER.findall(template)
    return tuple(name.removeprefix(_METADATA) for name in names if name.startswith(_METADATA))


def render(template: str, document: Document, text: str) -> str:
    """The template filled in one pass, so that braces in a document stay what they are; without outer blanks."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name == "text":
            return text
        if name.startswith(_METADATA):
            return _spelled(document.metadata.get(name.removeprefix(_METADATA)))
        return _spelled(getattr(document, name) if name in NAMES else match[0])

    return _PLACEHOLDER.sub(value, template).strip()


def _spelled(value: Scalar) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
