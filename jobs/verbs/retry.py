"""Retry: run failed partitions again, all of them, by cause or one alone."""

from __future__ import annotations

from typing import Any

from jobs.session import Session
from jobs.verbs.embed import embed_run
from jobs.verbs.load import load_run
from jobs.verbs.status import failed_partitions
from pipelines.load import must_read_manifest
from pipelines.plan.plan import Plan


def retry_run(session: Session, plan: Plan, *, cause: str | None, partition: str | None) -> dict[str, Any]:
    """Clear the chosen failures and run their stages for them.

    Raises:
        PartitionsFailed: some failed again.
    """
    chosen = failed_partitions(session, plan, cause=cause, partition=partition)
    if ids := chosen.get("embed"):
        embed_run(session, plan, only=ids)
    if ids := chosen.get("load"):
        load_run(session, plan, must_read_manifest(session.store, plan.run_id), only=ids)
    return {"run_id": plan.run_id, "retried": {stage: len(ids) for stage, ids in chosen.items()}}
