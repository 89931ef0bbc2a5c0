"""The reference of all settings, made from the typed models: conf/README.md. ``make golden`` rewrites it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.settings import Settings, model_in

README = Path(__file__).parent.parent / "conf" / "README.md"
_HEAD = """# Run descriptions

One YAML file per corpus. A file lies on the one that its `extends:` names, or else on `base.yaml` here; later layers
win, key by key, and `--set key=value` wins over all. `${oc.env:NAME}` and `${oc.env:NAME,default}` read the
environment. Credentials are never written here: they come from the AWS chain, and for OpenSearch from
`OPENSEARCH_USERNAME` and `OPENSEARCH_PASSWORD`, for an embedding service from the variable that `embed.remote.key_env` names.

| file | for |
|---|---|
| `base.yaml` | what every run description lies on: the base install's model and index |
| `demo.yaml` | `make demo`: the documentation of installed Python packages, into LanceDB |
| `opensearch.yaml` | a profile: from S3 into an OpenSearch node |
| `models/` | a card per shipped model file: digests, licence, measured agreement |

Every key, its type, its default and what it is for. This table is made from the code by `make golden`, and tested.

| key | type | default | for |
|---|---|---|---|
"""


def make_reference() -> str:
    rows = [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in list_keys(Settings)]
    return _HEAD + "\n".join(rows) + "\n"


def list_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, description) of every leaf, in the order of the models."""
    for name, field in model.model_fields.items():
        if inner := model_in(field.annotation):
            yield from list_keys(inner, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                _kind(field.annotation),
                _default(field),
                (field.description or "").replace("|", "\\|"),
            )


def _kind(annotation: Any) -> str:  # Any: whatever stands as an annotation
    if get_origin(annotation) is Literal:
        return "word" if isinstance(get_args(annotation)[0], str) else "whole number"
    if get_origin(annotation) in (tuple, dict):
        return "list" if get_origin(annotation) is tuple else "mapping"
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if arguments:
        nullable = len(arguments) < len(get_args(annotation))
        return " or ".join(dict.fromkeys(map(_kind, arguments))) + (" or null" if nullable else "")
    names = {str: "text", int: "whole number", float: "number", bool: "true, false"}
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see right"
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "null"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    return f"`{field.default}`"


if __name__ == "__main__":
    README.write_text(make_reference())
    sys.stdout.write(f"wrote {README.name}\n")
