"""A storm of attempts to see another tenant's rows, against the real app over a real index. Not one may succeed, and none
may end as an internal error.

One command: ``python -m tests.service.tenants --seed 1 [--attempts 100000]``. Exits 1 where anything was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from jobs.service.auth import Gatekeeper
from tests.service.attempts import Attacker, Attempt
from tests.service.tenant_world import World, app_of, make_world

_TOGETHER = 8
_KEPT_CURSORS = 200


@dataclass
class Result:
    """``foreign`` and ``failed`` name attempts that saw what they must not, and answers of 500; both empty where all is well."""

    attempts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    rows: int = 0  # answers with rows that their caller may see: without them nothing would be proved
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not self.foreign and not self.failed


async def storm(world: World, *, attempts: int, seed: int, gatekeeper: Gatekeeper | None = None) -> Result:
    result, attacker, began = Result(), Attacker(world, seed), time.monotonic()
    async with app_of(world, gatekeeper) as client:

        async def attack() -> None:
            while result.attempts < attempts:
                result.attempts += 1
                attempt = attacker.attempt(result.attempts)
                _judge(world, attempt, answer := await _send(client, attempt), result)
                _learn(attacker, attempt, answer)

        await asyncio.gather(*(attack() for _ in range(_TOGETHER)))
    result.seconds = time.monotonic() - began
    return result


async def _send(client: httpx.AsyncClient, attempt: Attempt) -> httpx.Response:
    url = httpx.URL("http://service").copy_with(raw_path=attempt.path.encode())
    return await client.send(httpx.Request(attempt.method, url, headers=attempt.headers, content=attempt.body))


def _judge(world: World, attempt: Attempt, answer: httpx.Response, result: Result) -> None:
    result.kinds[attempt.kind] += 1
    result.statuses[answer.status_code] += 1
    owners = world.owners(answer.content) | world.owners(str(answer.headers.raw).encode())
    allowed = set(world.canaries.values()) if attempt.sees is None else {attempt.sees}
    said = f"{attempt.kind}: {attempt.method} {attempt.path[:100]} {attempt.body!r:.200} by {attempt.sees!r}"
    if not owners <= allowed:
        result.foreign.append(f"{said} saw rows of {sorted(owners - allowed)}")
    elif owners:
        result.rows += 1
    if answer.status_code == 500:
        result.failed.append(f"{said}: {answer.text[:200]}")


def _learn(attacker: Attacker, attempt: Attempt, answer: httpx.Response) -> None:
    if answer.status_code != 200 or attempt.kind not in ("plain", "everything") or attempt.body is None:
        return
    if cursor := answer.json().get("cursor"):
        attacker.cursors.append((attempt.sees or "", json.loads(attempt.body), cursor))
        del attacker.cursors[:-_KEPT_CURSORS]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attempts", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder) / "world", seed=given.seed)
        result = asyncio.run(storm(world, attempts=given.attempts, seed=given.seed))
    print(f"seed {given.seed}: {result.attempts:,} attempts in {result.seconds:.0f} s; {result.rows:,} saw rows of their own; statuses "
          f"{dict(sorted(result.statuses.items()))}; kinds {dict(result.kinds)}")  # fmt: skip
    print("\n".join([*result.foreign[:20], *result.failed[:20]]) or "no foreign row was seen, and nothing failed")
    return 0 if result.sound else 1


if __name__ == "__main__":
    sys.exit(main())
