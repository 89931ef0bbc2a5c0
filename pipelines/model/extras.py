"""What the base install leaves out and these verbs need. Knows the names of extras, and nothing of what they hold."""

from __future__ import annotations

import importlib.util

from pipelines.errors import SettingsError


def has(*modules: str) -> bool:
    """Whether all are installed; none is imported."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


def need(extra: str, what: str, *modules: str) -> None:
    """Raises SettingsError naming the extra where one of the modules is missing."""
    if missing := [module for module in modules if not has(module)]:
        raise SettingsError(
            f"{what} needs {', '.join(missing)}, which the base install leaves out; install the extra `{extra}` "
            f"(`make setup` installs all, `uv pip install '.[{extra}]'` this one)"
        )
