"""Schemathesis against the real service with authentication: no server error, nothing outside its schema, no door that
opens without a key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.service.api_keys import new_key
from jobs.service.key_file import append_key
from tests.service.served import Served, served

CONFIG = Path(__file__).parent / "schemathesis.toml"


@pytest.fixture(scope="module")
def guarded(tenants: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A service that asks for keys, and one of them. Without a limit of rates: the fuzzer would meet little else."""
    keys = tmp_path_factory.mktemp("fuzz") / "keys.jsonl"
    key, kept = new_key(tenant="acme", subject="fuzzer")
    append_key(keys, kept)
    auth = (
        "--set",
        "serve.auth.method=api_keys",
        "--set",
        f"serve.auth.api_keys={keys}",
        "--set",
        "serve.limits.deadline_s=30",
    )
    with served(tenants, *auth) as service:
        yield service, key


def fuzz(service: Served, key: str, cases: int, seed: int, cwd: Path, *words: str) -> str:
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "--no-color", "--config-file", str(CONFIG), "run",
        f"{service.url}/openapi.json", "--header", f"Authorization: Bearer {key}", "--checks", "all", "--mode", "all",
        "--max-examples", str(cases), "--seed", str(seed), "--continue-on-failure", "--no-shrink",
        "--phases", "examples,coverage,fuzzing", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert service.process.poll() is None
    assert not re.search(r"^Errors:|Failures:", done.stdout, re.MULTILINE), done.stdout[-6000:]
    print(done.stdout[-3000:])
    return done.stdout


def test_two_hundred_cases_of_each_operation(guarded: tuple[Served, str], tmp_path: Path) -> None:
    fuzz(*guarded, 200, 1, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "operation", ["/v1/search", "/v1/embed", "/v1/documents", "/v1/generations", "/healthz", "/readyz"]
)
def test_five_thousand_cases(guarded: tuple[Served, str], tmp_path: Path, operation: str) -> None:
    fuzz(*guarded, 5_000, 2, tmp_path, "--include-path", operation)
