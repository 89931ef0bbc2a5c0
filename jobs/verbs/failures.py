"""Failures: which partitions were given up and which records rejected, why, and what to type next. Changes nothing."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jobs.failures import Failures
from jobs.session import Session
from jobs.verbs.embed import read_receipts
from jobs.verbs.status import stage_receipts
from pipelines.errors import SourceChanged, TargetError
from pipelines.manifest import read_manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import embed_receipts
from pipelines.rejects import CAUSES, read_rejects

STAGES = ("embed", "load", "verify")
_EXAMPLES = 3
_KEYS = 3


def run_failures(session: Session, plan: Plan) -> dict[str, Any]:
    """Failed partitions and rejected records, grouped by stage and cause, each with examples and the next command."""
    failed = failed_partitions(session, plan)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for stage in STAGES:
        for record in failed.get(stage, []):
            groups[stage, record["cause"]].append(record)
    return {
        "run_id": plan.run_id,
        "partitions": [
            {"stage": stage, "cause": cause, "count": len(records), "examples": _examples(plan, records[:_EXAMPLES]),
             "next": _next(session, cause)}
            for (stage, cause), records in groups.items()
        ],
        "rejects": _group_rejects(session, plan),
    }  # fmt: skip


def failed_partitions(session: Session, plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """The records of failures by stage, without the partitions that were done since."""
    recorded, done = Failures(session.store, plan.run_id), _done(session, plan)
    ids = {stage: recorded.ids(stage) - done.get(stage, set()) for stage in STAGES}
    return {stage: recorded.read(stage, found) for stage, found in ids.items() if found}


def _done(session: Session, plan: Plan) -> dict[str, set[str]]:
    try:
        stages = stage_receipts(session, plan)
    except TargetError as error:
        session.say(f"what was loaded of what failed cannot be told: {error}")
        stages = {"embed": embed_receipts(session.store, plan.run_id)}
    return {stage: receipts.committed() for stage, receipts in stages.items()}


def _next(session: Session, cause: str) -> str:
    """Trying again mends no source that is another one now. The children of an array are started by whoever submits it:
    giving the attempts back is what can be typed here."""
    if cause == SourceChanged.__name__:
        return "backhaul run CONF --replan"
    only = " --clear-only" if session.settings.engine.name == "batch_array" else ""
    return f"backhaul retry CONF --cause {shlex.quote(cause)}{only}"


def _examples(plan: Plan, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with their partition's number and the objects it is made of, the first few."""
    partitions = {one.id: one for one in plan.partitions.pending(set(), {record["partition"] for record in records})}
    examples = []
    for record in records:
        partition = partitions[record["partition"]]
        keys = list(dict.fromkeys(piece.key for piece in partition.slices))
        examples.append({"partition": partition.id, "number": partition.number, "keys": keys[:_KEYS],
                         "objects": len(keys), "message": record["message"], "attempts": record["attempts"]})  # fmt: skip
    return examples


def _group_rejects(session: Session, plan: Plan) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    examples: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for stage, receipt in _receipts(session, plan):
        for cause, count in receipt["rejects"]["counts"].items():
            counts[stage, cause] += count
        wanted = [cause for cause in receipt["rejects"]["counts"] if len(examples[stage, cause]) < _EXAMPLES]
        if wanted:
            for reject in read_rejects(session.store, plan.run_id, receipt["rejects"]["file"]):
                if reject.cause in wanted and len(examples[stage, reject.cause]) < _EXAMPLES:
                    examples[stage, reject.cause].append(
                        {"at": reject.position, "document_id": reject.document_id, "reason": reject.reason}
                    )
    return [
        {"stage": stage, "cause": cause, "count": count, "meaning": CAUSES.get(cause, "refused by the index"),
         "examples": examples[stage, cause]}
        for (stage, cause), count in sorted(counts.items(), key=lambda item: -item[1])
    ]  # fmt: skip


def _receipts(session: Session, plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """Those that may name rejects. A manifest without any saves reading the embedding's."""
    manifest = read_manifest(session.store, plan.run_id)
    found = []
    if manifest is None or manifest.totals["rejects"]:
        found += [("embed", receipt) for receipt in read_receipts(session, plan).values()]
    try:
        loads = stage_receipts(session, plan).get("load")
    except TargetError as error:
        session.say(f"what the index refused is left out: {error}")
        return found
    ids = sorted(loads.committed()) if loads else []
    return found + [("load", receipt) for one in ids if loads and (receipt := loads.find(one))]
