"""LanceDB is imported without its REST client, and nobody else misses it. Each test has a process of its own, as imports
are once and for all."""

from __future__ import annotations

import subprocess
import sys


def said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORT = """
import sys
from pipelines.targets.lancedb_import import import_lancedb
"""
USE = """
import pyarrow as pa
print(lancedb.connect("memory://").create_table("t", pa.table({"a": [1, 2]})).count_rows())
print(any(name.startswith("lance_namespace_urllib3_client.api") for name in sys.modules))
"""


def test_the_client_is_left_out() -> None:
    assert said(f"{IMPORT}lancedb = import_lancedb()\nassert import_lancedb() is lancedb\n{USE}").split() == [
        "2",
        "False",
    ]


def test_whoever_wants_the_client_afterwards_gets_it() -> None:
    program = f"""{IMPORT}
import_lancedb()
import lance_namespace
import lance_namespace_urllib3_client as client
print(client.ApiClient.__name__, client.CreateTableRequest is lance_namespace.CreateTableRequest)
"""
    assert said(program) == "ApiClient True"


def test_whoever_has_the_client_or_lancedb_keeps_it() -> None:
    for first in ("lance_namespace_urllib3_client", "lancedb"):
        assert (
            said(f"import {first} as kept\n{IMPORT}import_lancedb()\nprint(sys.modules[{first!r}] is kept)") == "True"
        )


def test_a_version_that_wants_more_of_the_client_gets_it() -> None:
    program = f"""{IMPORT}
from importlib.abc import MetaPathFinder

class Wants(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "lance_namespace":
            from lance_namespace_urllib3_client import ApiClient

sys.meta_path.insert(0, Wants())
lancedb = import_lancedb()
print("ApiClient" in dir(sys.modules["lance_namespace_urllib3_client"]))
{USE}"""
    assert said(program).split() == ["True", "2", "True"]
