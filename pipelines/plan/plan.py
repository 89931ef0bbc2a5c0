"""The plan of a run: the frozen listing in partitions, and what decides its rows and vectors.

Persists plans and finds open ones; reads no object's body and knows no engine or index.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
import pyarrow as pa

from pipelines.closed import manifest_key
from pipelines.digest import FORMAT, canonical_json, check_format, digest_of, parse_json
from pipelines.errors import GateRefused, NotFound
from pipelines.partition import Partition
from pipelines.plan.partitions import Partitions
from pipelines.space import RequestedMaker, Space
from pipelines.store import Created, Store

_REPLAN = "Delete it and run the same command with --replan: an unchanged source is planned as the same run."


@dataclass(frozen=True, slots=True)
class Plan:
    """``deciding`` holds the settings that decide rows and vectors; ``run_id`` is the digest of it all."""

    run_id: str
    deciding: dict[str, Any]
    space: Space
    maker: RequestedMaker
    listing: str
    partitions: Partitions
    estimate: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def deciding_digest(self) -> str:
        return digest_of(self.deciding)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One planning of a corpus. The number decides which run was planned earlier."""

    number: int
    run_id: str
    deciding: str
    planned_at_ms: int


def make_plan(*, deciding: dict[str, Any], space: Space, maker: RequestedMaker, listing: str,
              partitions: Sequence[Partition], estimate: dict[str, Any], notes: Sequence[str],
              is_closed: Callable[[str], bool] = lambda run_id: False) -> Plan:  # fmt: skip
    """``listing`` is the frozen listing's digest; ``deciding`` holds Space and Maker too. The run of a closed one's
    content is another run: ``is_closed`` tells by run id."""
    decides = {
        "format": FORMAT,
        "listing": listing,
        "partitions": [p.id for p in partitions],
        "deciding": deciding,
        "base": None,
    }
    ids = (digest_of({**decides, **({"closed_before": times} if times else {})})[:32] for times in count())
    run_id = next(one for one in ids if not is_closed(one))
    return Plan(run_id, deciding, space, maker, listing, Partitions.of(partitions), estimate, tuple(notes))


def write_plan(store: Store, corpus: str, plan: Plan) -> RunRecord:
    """Objects first, then plan.json, then the corpus's record, whose existence makes the plan known.

    Planning the newest run again adds nothing.
    """
    store.create(f"runs/{plan.run_id}/objects.parquet", plan.partitions.to_parquet())
    small = {
        "format": FORMAT,
        "run_id": plan.run_id,
        "deciding": plan.deciding,
        "space": plan.space.to_json(),
        "maker": plan.maker.to_json(),
        "listing": plan.listing,
        "partitions": len(plan.partitions),
        "estimate": plan.estimate,
        "notes": plan.notes,
    }
    store.create(f"runs/{plan.run_id}/plan.json", canonical_json(small))
    while True:
        records = list_runs(store, corpus)
        if records and records[-1].run_id == plan.run_id:
            return records[-1]
        number = records[-1].number + 1 if records else 1
        record = RunRecord(number, plan.run_id, plan.deciding_digest, int(time.time() * 1000))
        value = {"deciding": record.deciding, "planned_at_ms": record.planned_at_ms}
        if store.create(f"corpora/{corpus}/runs/{number:08d}-{plan.run_id}.json", canonical_json(value)) is Created.WON:
            return record


def read_plan(store: Store, run_id: str) -> Plan:
    """Raises NotFound for an unknown run, NewerFormat for one planned by a later version, GateRefused for damage."""
    value, key = _read(store, run_id), f"runs/{run_id}/objects.parquet"
    try:
        partitions = Partitions.from_parquet(store.get(key))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise GateRefused(f"{store.uri}/{key} is damaged ({error}). {_REPLAN}") from error
    if len(partitions) != value["partitions"]:
        raise GateRefused(f"{store.uri}/{key} holds {len(partitions)} of {value['partitions']} partitions. {_REPLAN}")
    return Plan(run_id, value["deciding"], Space(**value["space"]), RequestedMaker(**value["maker"]),
                value["listing"], partitions, value["estimate"], tuple(value["notes"]))  # fmt: skip


def read_estimate(store: Store, run_id: str) -> dict[str, Any]:
    """The plan's estimates, without its partitions."""
    return dict(_read(store, run_id)["estimate"])


def list_runs(store: Store, corpus: str) -> list[RunRecord]:
    """Every planning of the corpus, oldest first, without reading them."""
    keys = sorted(found.key for found in store.list(f"corpora/{corpus}/runs/"))
    return [record for key in keys if (record := _record(store, key))]


def find_run(store: Store, corpus: str, deciding: dict[str, Any]) -> RunRecord | None:
    """The newest run whose deciding settings equal these."""
    wanted = digest_of(deciding)
    return next((r for r in reversed(list_runs(store, corpus)) if r.deciding == wanted), None)


def is_open(store: Store, run_id: str) -> bool:
    """Open: no manifest yet, and not closed, of which the mark is in the manifest's place."""
    try:
        store.head(manifest_key(run_id))
    except NotFound:
        return True
    return False


def _read(store: Store, run_id: str) -> dict[str, Any]:
    key = f"runs/{run_id}/plan.json"
    value: dict[str, Any] = parse_json(store.get(key), f"{store.uri}/{key}", _REPLAN)
    check_format(value.get("format"), f"{store.uri}/{key}")
    return value


def run_of_record(key: str) -> tuple[int, str]:
    """Number and run id in a record's key."""
    number, _, rest = key.rpartition("/")[2].partition("-")
    return int(number), rest.removesuffix(".json")


def _record(store: Store, key: str) -> RunRecord | None:
    try:
        value = orjson.loads(store.get(key))
    except NotFound:  # swept since it was listed
        return None
    return RunRecord(*run_of_record(key), value["deciding"], value["planned_at_ms"])
