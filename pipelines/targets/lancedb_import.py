"""Imports lancedb without what it brings along for services that are never asked. Knows no table."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

_CLIENT = "lance_namespace_urllib3_client"


def import_lancedb() -> Any:  # Any: lancedb is untyped at this border
    """The package. It wants the models of a REST client, and the client's package would import its whole API before
    them: 0.4 to 0.5 s of 0.7 (lancedb 0.40), of every command. So the package is there without having been run, and
    whoever imports it afterwards gets the whole."""
    spec = None if {"lancedb", _CLIENT} & sys.modules.keys() else find_spec(_CLIENT)
    if spec is not None:
        sys.modules[_CLIENT] = module_from_spec(spec)
        try:
            return import_module("lancedb")
        except ImportError:  # another version may want more of the client than its models
            pass
        finally:
            del sys.modules[_CLIENT]
    return import_module("lancedb")
