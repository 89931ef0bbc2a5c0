"""Failures: which partitions were given up and which records rejected, why, and what to type next. Changes nothing."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jobs.failures import Failures
from jobs.session import Session
from jobs.verbs.embed import read_receipts
from jobs.verbs.load import load_task, refused_rows
from jobs.verbs.status import stage_receipts
from pipelines.dead_letters import DeadLetters, Rejects
from pipelines.errors import SourceChanged, TargetError
from pipelines.manifest import read_manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import embed_receipts, load_receipts
from pipelines.rejects import CAUSES, read_rejects

_Example = tuple[str, str, str | None, str]  # cause, where, document id, reason
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
    """Rejected records of the embedding and dead letters of the load, by cause."""
    groups = [*_groups("embed", _of_embedding(session, plan)), *_groups("load", _of_load(session, plan))]
    for group in groups:  # what was rejected by its reader is mended at its source
        group["next"] = (
            f"backhaul retry CONF --cause {shlex.quote(group['cause'])}" if group["stage"] == "load" else None
        )
    return sorted(groups, key=lambda group: -group["count"])


def _groups(
    stage: str, found: Iterable[tuple[Mapping[str, int], Callable[[], Iterable[_Example]]]]
) -> list[dict[str, Any]]:
    """``found``: counts by cause of one partition, and how to read its rejects."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for here, read in found:
        counts.update(here)
        if any(len(examples[cause]) < _EXAMPLES for cause in here):
            for cause, at, document_id, reason in read():
                if len(examples[cause]) < _EXAMPLES:
                    examples[cause].append({"at": at, "document_id": document_id, "reason": reason})
    return [{"stage": stage, "cause": cause, "count": count, "meaning": CAUSES.get(cause, "refused by the index"),
             "examples": examples[cause]} for cause, count in counts.items()]  # fmt: skip


def _of_embedding(session: Session, plan: Plan) -> Iterator[tuple[Mapping[str, int], Callable[[], Iterable[_Example]]]]:
    manifest = read_manifest(session.store, plan.run_id)
    if manifest is not None and not manifest.totals["rejects"]:  # which saves reading all receipts
        return
    for receipt in read_receipts(session, plan).values():
        if file := receipt["rejects"]["file"]:
            yield receipt["rejects"]["counts"], partial(_rejects, session, plan, file)


def _rejects(session: Session, plan: Plan, file: str) -> Iterator[_Example]:
    for reject in read_rejects(session.store, plan.run_id, file):
        yield reject.cause, reject.position, reject.document_id, reject.reason


def _of_load(session: Session, plan: Plan) -> Iterator[tuple[Mapping[str, int], Callable[[], Iterable[_Example]]]]:
    try:
        generation = session.target.find(session.generation_name(plan.run_id))
    except TargetError as error:
        session.say(f"what the index refused is left out: {error}")
        return
    if generation is None:
        return
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    letters = load_task(session, generation).dead_letters(session.store)
    for refused in refused_rows(session, receipts, generation).values():
        if refused["file"]:
            yield refused["counts"], partial(_letters, letters, refused)


def _letters(letters: DeadLetters, refused: Rejects) -> Iterator[_Example]:
    for kept in letters.read(refused):
        status = f"{kept.letter.status}: " if kept.letter.status else ""
        yield (
            kept.letter.cause,
            f"part {kept.part} row {kept.row}",
            kept.letter.document_id,
            status + kept.letter.reason,
        )
