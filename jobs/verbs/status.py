"""Status: what is done of a run, who is at it, how fast it goes and what was lost. Changes nothing.

Made of listings; single objects are read only where they tell what a key does not (leases of what is not done, a few
receipts), so that a run of a million partitions has a status as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from heapq import nlargest
from typing import Any

from jobs.failures import Failures
from jobs.pace import Pace, pace_of
from jobs.session import Session
from jobs.spent import rates
from pipelines.attempts import parts_begun, seconds_lost
from pipelines.embed.timing import Timings
from pipelines.errors import TargetError
from pipelines.holders import Holding, who_holds
from pipelines.leases import Epoch
from pipelines.load import loads_finished
from pipelines.manifest import read_manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import Receipts, embed_receipts, load_receipts
from pipelines.targets.target import Generation
from pipelines.verify.record import newest_verification

_TIMED = 20  # partitions whose timings are read


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage's figures for people, and what they were made of."""

    name: str
    figures: dict[str, Any]
    committed: Mapping[str, int]
    holding: Holding
    on_demand: list[str]


def run_status(session: Session, plan: Plan) -> dict[str, Any]:
    """Counts by stage, pace, holders, losses, both digests and what is live. An index that cannot be reached hides no
    other figure.

    In each stage every partition is done, in hand now, failed or pending. ``attempts`` counts how often a partition was
    begun, ``interruptions`` how often its holder died or was interrupted (since the last ``retry`` of that partition; at
    most, where not ``interruptions_exact``). ``seconds_lost_at_most`` is explained at ``seconds_lost``, the embedding's
    ``tokens_per_second`` and ``waited_share`` at ``jobs.spent.spent``; they are those of the newest twenty partitions.
    """
    store, now = session.store, time.time()
    manifest = read_manifest(store, plan.run_id)
    begun = parts_begun(store, plan.run_id)
    index = _index(session, plan)
    stages = [_stage(session, plan, "embed", embed_receipts(store, plan.run_id), now)]
    newest = nlargest(_TIMED, stages[0].committed, key=stages[0].committed.__getitem__)
    stages[0].figures.update(rows=manifest.rows if manifest else None, **rates(Timings(store, plan.run_id).of(newest)))
    if index.generation:
        load = _stage(session, plan, "load", loads_of(session, plan, index.generation), now)
        # Before its end a load's rows are not to be seen by everybody.
        load.figures.update(rows=index.generation.rows if index.finished else None,
                            finished=bool(index.finished) and not index.generation.loading)  # fmt: skip
        stages.append(load)
    figures = {stage.name: stage.figures for stage in stages}
    return {
        "corpus": session.settings.corpus,
        "run_id": plan.run_id,
        "content_digest": manifest.content_digest if manifest else None,
        "bytes_digest": manifest.bytes_digest if manifest else None,
        "rows": manifest.rows if manifest else None,
        "stages": {
            "embed": figures["embed"],
            "load": figures.get("load", None if index.error else _nothing_loaded(plan)),
            "verify": None if index.error else _verify_figures(session, plan, index),
        },
        "attempts": sum(stage.holding.epochs for stage in stages),
        "interruptions": sum(stage.holding.interruptions for stage in stages),
        "interruptions_exact": all(stage.holding.exact for stage in stages),
        "holders": [_holder(stage.name, partition_id, epoch, now)
                    for stage in stages for partition_id, epoch in stage.holding.held.items()],
        "on_demand": [{"stage": stage.name, "partition": one} for stage in stages for one in stage.on_demand],
        "parts_begun": begun.total,
        "parts_recomputed": begun.recomputed,
        "seconds_lost_at_most": seconds_lost(store, plan.run_id, begun),
        "failures": sum(figures["failed"] for figures in figures.values()) + index.failed_verify,
        "generation": index.generation.name if index.generation else None,
        "live": index.live,
        "index_error": index.error,
    }  # fmt: skip


def loads_of(session: Session, plan: Plan, generation: Generation) -> Receipts:
    return load_receipts(session.store, plan.run_id, generation.name, generation.uuid)


def stage_receipts(session: Session, plan: Plan) -> dict[str, Receipts]:
    """The receipts of each stage that leaves some: embed, and load where there is a generation.

    Raises:
        TargetError: the index cannot be asked for it.
    """
    found = {"embed": embed_receipts(session.store, plan.run_id)}
    if generation := session.target.find(session.generation_name(plan.run_id)):
        found["load"] = loads_of(session, plan, generation)
    return found


def _stage(session: Session, plan: Plan, name: str, receipts: Receipts, now: float) -> _Stage:
    store, total = session.store, len(plan.partitions)
    committed = dict(receipts.listed())
    holding = who_holds(store, receipts.leases, committed.keys(), session.settings.engine.lease)
    failed = Failures(store, plan.run_id).ids(name) - committed.keys() - holding.held.keys()
    marks = (found.key.rpartition("/")[2].removesuffix(".json") for found in store.list(f"{receipts.on_demand}/"))
    pending = max(0, total - len(committed) - len(holding.held) - len(failed))
    pace = pace_of(receipts, committed, left=pending + len(holding.held), now_ms=round(now * 1000),
                   running_since_ms=_running_since_ms(holding.held))  # fmt: skip
    figures = {"done": len(committed), "in_hand": len(holding.held), "failed": len(failed), "pending": pending,
               "total": total, **asdict(pace)}  # fmt: skip
    return _Stage(name, figures, committed, holding, sorted(set(marks) - committed.keys()))


def _running_since_ms(held: Mapping[str, Epoch]) -> int | None:
    return round(min(epoch.owner.started for epoch in held.values()) * 1000) if held else None


def _holder(stage: str, partition_id: str, epoch: Epoch, now: float) -> dict[str, Any]:
    return {"stage": stage, "partition": partition_id, "host": epoch.owner.name, "pid": epoch.owner.pid,
            "held_s": round(max(0.0, now - epoch.taken_ms / 1000), 1),
            "last_sign_s": round(max(0.0, now - epoch.renewed_ms / 1000), 1),
            "interruptions": epoch.interruptions}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Index:
    """What the index says, and ``error`` where it says nothing."""

    generation: Generation | None = None
    live: dict[str, str] | None = None
    finished: int = 0
    failed_verify: int = 0
    error: str | None = None


def _index(session: Session, plan: Plan) -> _Index:
    try:
        generation = session.target.find(session.generation_name(plan.run_id))
        live = session.target.live(session.settings.corpus)
        found = session.target.find(live) if live else None
    except TargetError as error:
        return _Index(error=str(error))
    finished = loads_finished(session.store, loads_of(session, plan, generation)) if generation else 0
    failed = len(Failures(session.store, plan.run_id).ids("verify")) if generation else 0
    told = {"generation": live, "run_id": found.meta.run_id} if live and found else None
    return _Index(generation, told, finished, failed)


def _nothing_loaded(plan: Plan) -> dict[str, Any]:
    total = len(plan.partitions)
    return {"done": 0, "in_hand": 0, "failed": 0, "pending": total, "total": total,
            **asdict(Pace()), "rows": None, "finished": False}  # fmt: skip


def _verify_figures(session: Session, plan: Plan, index: _Index) -> dict[str, Any] | None:
    """A verification compares all partitions or counts for nothing, so that it has no receipts to count."""
    if index.generation is None:
        return None
    proof = newest_verification(session.store, session.settings.corpus, index.generation)
    if proof is None and not index.failed_verify:
        return None
    total, current = len(plan.partitions), proof is not None and proof.load == index.finished
    done = total if current else 0
    return {"done": done, "in_hand": 0, "failed": index.failed_verify, "pending": max(0, total - done - index.failed_verify),
            "total": total, "passed": proof.passed if proof else None, "current": current}  # fmt: skip
