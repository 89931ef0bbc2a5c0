"""Redrive: send dead letters to the index again, and finish the load anew. A part of ``retry``."""

from __future__ import annotations

import time
from typing import Any

from jobs.session import Session
from jobs.verbs.load import check_dead_letters, finish_index, lease_of_finishing, load_task, refused_rows
from pipelines.dead_letters import total
from pipelines.errors import LeaseHeld
from pipelines.load import loads_finished, outdate_verifications
from pipelines.plan.plan import Plan
from pipelines.receipts import Receipts, load_receipts
from pipelines.redrive import RedriveTask, RedriveWork
from pipelines.targets.target import Generation


def redrive_run(session: Session, plan: Plan, *, cause: str | None, partition: str | None) -> dict[str, Any] | None:
    """Send the dead letters of the settings' generation again, those of one cause or of the partitions whose id begins
    with ``partition`` alone. None when there are none such, or no load was finished.

    Raises:
        GateRefused: more than ``index.max_dead_letters`` are left.
        PartitionsFailed, TargetError, Interrupted: resumable by the same command.
    """
    generation = session.target.find(session.generation_name(plan.run_id))
    if generation is None:
        return None
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    if not loads_finished(session.store, receipts):
        return None
    while True:
        try:
            with session.alone(plan.run_id, lease_of_finishing(generation)):
                result = _redrive(session, plan, generation, receipts, cause, partition)
            break
        except LeaseHeld as held:
            session.say(f"retry: another process finishes {generation.name}; waiting for it")
            time.sleep(held.retry_after_s)
    if result:
        check_dead_letters(session, receipts, generation)
    return result


def _redrive(session: Session, plan: Plan, generation: Generation, receipts: Receipts, cause: str | None,
             partition: str | None) -> dict[str, Any] | None:  # fmt: skip
    """Without the load profile: the generation may be live, and what comes is little."""
    wanted = {one for one, refused in refused_rows(session, receipts, generation).items()
              if one.startswith(partition or "") and any(cause in (None, each) for each in refused["counts"])}  # fmt: skip
    if not wanted:
        return None
    outdate_verifications(session.store, receipts)
    task = RedriveTask(load=load_task(session, generation), cause=cause)
    done = session.run_partitions("load", plan, plan.partitions.pending(set(), wanted), RedriveWork, task,
                                  workers=session.target.max_writers)  # fmt: skip
    finish_index(session, receipts, generation)
    left = total(refused_rows(session, receipts, generation).values())
    return {"generation": generation.name, "tried": sum(each["tried"] for each in done),
            "taken": sum(each["tried"] - each["refused"] for each in done), "left": dict(left)}  # fmt: skip
