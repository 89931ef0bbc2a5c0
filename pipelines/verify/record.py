"""Verifications as numbered records beside the corpus. Proves nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from pipelines.digest import FORMAT, canonical_json
from pipelines.store import Created, Store
from pipelines.targets.target import Generation
from pipelines.verify.gates import Gate


@dataclass(frozen=True, slots=True)
class Verification:
    """``load`` is the number of the finished load that was proved; a later load makes this one stale."""

    generation: str
    index_uuid: str
    load: int
    passed: bool
    gates: tuple[Gate, ...]
    at_ms: int


def make_verification(generation: Generation, load: int, gates: Sequence[Gate]) -> Verification:
    return Verification(generation.name, generation.uuid, load, all(gate.passed for gate in gates), tuple(gates),
                        int(time.time() * 1000))  # fmt: skip


def record_verification(store: Store, corpus: str, verification: Verification) -> None:
    """Append the numbered record; another verifier's number is never overwritten."""
    folder = verifications_folder(corpus, verification.generation, verification.index_uuid)
    number = len(list(store.list(folder)))
    while True:
        number += 1
        data = canonical_json({"format": FORMAT, **asdict(verification)})
        if store.create(f"{folder}{number:08d}.json", data) is Created.WON:
            return


def newest_verification(store: Store, corpus: str, generation: Generation) -> Verification | None:
    keys = sorted(found.key for found in store.list(verifications_folder(corpus, generation.name, generation.uuid)))
    if not keys:
        return None
    value = orjson.loads(store.get(keys[-1]))
    del value["format"]
    value["gates"] = tuple(Gate(**gate) for gate in value["gates"])
    return Verification(**value)


def verifications_folder(corpus: str, generation: str, index_uuid: str) -> str:
    return f"corpora/{corpus}/verifications/{generation}/{index_uuid}/"
