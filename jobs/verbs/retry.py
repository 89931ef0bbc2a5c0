"""Retry: give failed partitions their attempts back and run them again, and send dead letters to the index again; all of
them, by cause or of one partition alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs.failures import Failures
from jobs.session import Session
from jobs.verbs.embed import embed_run
from jobs.verbs.failures import STAGES, failed_partitions
from jobs.verbs.load import load_run
from jobs.verbs.redrive import redrive_run
from jobs.verbs.release import find_generation
from jobs.verbs.status import stage_receipts
from jobs.verbs.verify import verify_run
from pipelines.errors import SettingsError
from pipelines.leases import Leases
from pipelines.load import must_read_manifest
from pipelines.owner import this_owner
from pipelines.plan.plan import Plan
from pipelines.receipts import embed_receipts

_THREADS = 16


def retry_run(session: Session, plan: Plan, *, cause: str | None, partition: str | None,
              clear_only: bool = False) -> dict[str, Any]:  # fmt: skip
    """Give the chosen failed partitions all their attempts again and run their stages for them, the embedding first; then
    send the index again what it had refused for good.

    Args:
        cause: as ``failures`` groups them, of partitions and of dead letters.
        partition: the beginning of an id.
        clear_only: forget the failures and run nothing: what is to be done before an array is submitted again. A failure
            that is forgotten is a pending partition like any other, for ``run`` too.

    Raises:
        PartitionsFailed: some failed again.
        GateRefused: the index refuses more rows than ``index.max_dead_letters`` still.
        SettingsError: no partition has that id; or engine batch_array without ``clear_only``, where each child would
            give back the attempts that the others count.
    """
    if session.settings.engine.name == "batch_array" and not clear_only:
        raise SettingsError(
            "the children of an array retry nothing. `backhaul retry CONF --clear-only` gives failed partitions their "
            "attempts back, then submit the array again; or run them here: `backhaul retry CONF --engine local`"
        )
    failed = failed_partitions(session, plan)
    chosen = _chosen(failed, cause, partition)
    if partition is not None and not chosen:
        _must_exist(plan, partition)
    _clear(session, plan, chosen)
    if clear_only:
        for stage, ids in chosen.items():
            Failures(session.store, plan.run_id).clear(stage, ids)
        redriven = None
    else:
        _run(session, plan, chosen)
        redriven = redrive_run(session, plan, cause=cause, partition=partition)
    return {
        "run_id": plan.run_id,
        "retried": {stage: len(ids) for stage, ids in chosen.items()},
        "cleared_only": clear_only,
        "dead_letters": redriven,
        "failed": {stage: len(records) for stage, records in failed_partitions(session, plan).items()},
        "causes": sorted({record["cause"] for records in failed.values() for record in records}),
        "next": f"backhaul {next(iter(chosen), 'run') if clear_only else 'run'} CONF" if chosen or redriven else None,
    }


def _chosen(failed: dict[str, list[dict[str, Any]]], cause: str | None, partition: str | None) -> dict[str, set[str]]:
    chosen = {
        stage: {record["partition"] for record in failed.get(stage, [])
                if cause in (None, record["cause"]) and record["partition"].startswith(partition or "")}
        for stage in STAGES
    }  # fmt: skip
    return {stage: ids for stage, ids in chosen.items() if ids}


def _must_exist(plan: Plan, partition: str) -> None:
    if not any(one.startswith(partition) for one in plan.partitions.ids):
        raise SettingsError(
            f"run {plan.run_id[:12]} has no partition whose id begins with {partition!r}; `backhaul failures CONF` "
            "lists those that failed"
        )


def _clear(session: Session, plan: Plan, chosen: dict[str, set[str]]) -> None:
    """Their leases forget who died on them, and their marks for on-demand capacity go."""
    stages = {"embed": embed_receipts(session.store, plan.run_id)}
    if "load" in chosen:  # the index need not be there for the rest
        stages = stage_receipts(session, plan)
    owner, settings = this_owner(session.invocation), session.settings.engine.lease
    for stage in stages.keys() & chosen.keys():
        leases = Leases(session.store, stages[stage].leases, owner, settings)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(leases.clear, chosen[stage]))
        session.store.delete([f"{stages[stage].on_demand}/{one}.json" for one in chosen[stage]])


def _run(session: Session, plan: Plan, chosen: dict[str, set[str]]) -> None:
    if ids := chosen.get("embed"):
        embed_run(session, plan, only=ids)
    if ids := chosen.get("load"):
        load_run(session, plan, must_read_manifest(session.store, plan.run_id), only=ids)
    if "verify" in chosen:  # a verification compares everything or counts for nothing
        generation = find_generation(session, run_id=plan.run_id, name=None)
        verify_run(session, plan, must_read_manifest(session.store, plan.run_id), generation)
