"""Embed: every pending partition into parts, then the manifest. Knows no index."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jobs.engines.engine import Beat
from jobs.failures import Failures
from jobs.session import Session
from jobs.verbs.plan import open_or_plan
from pipelines.embed.billed import BilledEmbedWork
from pipelines.embed.work import EmbedTask, EmbedWork
from pipelines.errors import LeaseHeld
from pipelines.manifest import Manifest, commit_manifest, read_manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import Receipts, embed_receipts


def embed_corpus(session: Session, *, replan: bool = False) -> dict[str, Any]:
    """Resume the corpus's open plan, or make one, and embed it. ``complete`` is False where an array's other children
    still have some of it.

    Raises:
        As ``embed_run``.
    """
    session.engine  # noqa: B018  # an array child that cannot know which it is must not plan either
    planned = open_or_plan(session, replan=replan)
    if session.child and planned.how != "resumed":
        session.say("every child that finds no plan lists the source; `backhaul plan CONF` before the array saves that")
    manifest = embed_run(session, planned.plan)
    if manifest is None:
        state = unfinished(session, "embed", planned.plan, embed_receipts(session.store, planned.plan.run_id))
        return {"run_id": planned.plan.run_id, "complete": False, **state}
    return {"run_id": manifest.run_id, "complete": True, **manifest.totals, "rows": manifest.rows,
            "content_digest": manifest.content_digest, "bytes_digest": manifest.bytes_digest}  # fmt: skip


def unfinished(session: Session, stage: str, plan: Plan, receipts: Receipts) -> dict[str, int]:
    """How many partitions of how many are pending in a stage, and how many of those have failed."""
    pending = set(plan.partitions.pending(receipts.committed()).ids)
    failed = pending & Failures(session.store, plan.run_id).ids(stage)
    return {"partitions": len(plan.partitions), "pending": len(pending), "failed": len(failed)}


def embed_run(session: Session, plan: Plan, *, only: set[str] | None = None) -> Manifest | None:
    """Embed what is pending and commit the manifest; a finished run is left as it is.

    Args:
        only: partition ids to try.

    Returns:
        None when others are still pending (with ``only``, or in the hands of an array's other children), and for an
        array child when another process makes the manifest.

    Raises:
        PartitionsFailed, Interrupted: resumable; what is committed stays.
        GateRefused: over a limit, or duplicate ids.
    """
    if manifest := read_manifest(session.store, plan.run_id):
        session.say(f"embed: run {plan.run_id[:12]} is complete, {manifest.rows} rows; nothing to embed")
        return manifest
    settings = session.settings
    receipts = embed_receipts(session.store, plan.run_id)
    pending = plan.partitions.pending(receipts.committed(), only)
    if pending:
        task = EmbedTask(root=settings.root, storage=settings.storage, source=settings.source, split=settings.split,
                         embed=settings.embed, run_id=plan.run_id,
                         space=plan.space.to_json())  # fmt: skip
        facts: dict[str, Any] = {"workers": settings.engine.workers, "maker": session.maker.to_json(),
                                 "tokens": 0, "rows": 0}  # fmt: skip

        def count(beat: Beat) -> None:  # what was found of earlier attempts, or made by another driver, cost nothing
            if not beat.resumed:
                facts["tokens"] += beat.tokens
                facts["rows"] += beat.rows

        with session.timed("embed", plan.run_id, facts):
            rows = round(plan.estimate["rows"] * len(pending) / len(plan.partitions))
            work = BilledEmbedWork if settings.embed.remote else EmbedWork
            session.run_partitions("embed", plan, pending, work, task, receipts=receipts,
                                   total_rows=rows, estimated=True, on_beat=count)  # fmt: skip
    return None if plan.partitions.pending(receipts.committed()) else _complete(session, plan)


def _complete(session: Session, plan: Plan) -> Manifest | None:
    """The manifest, made here or by another process that was first. An array child does not wait for that one."""
    settings = session.settings
    while (manifest := read_manifest(session.store, plan.run_id)) is None:
        try:
            with session.alone(plan.run_id, "manifest"):
                return read_manifest(session.store, plan.run_id) or commit_manifest(
                    session.store, plan, read_receipts(session, plan),
                    on_duplicate=settings.source.on_duplicate, limits=settings.limits)  # fmt: skip
        except LeaseHeld as held:
            if session.child:
                return None
            session.say("embed: another process makes the manifest; waiting for it")
            time.sleep(held.retry_after_s)
    return manifest


def read_receipts(session: Session, plan: Plan) -> Mapping[str, dict[str, Any]]:
    """Every committed embed receipt of the run, by partition id."""
    receipts = embed_receipts(session.store, plan.run_id)
    committed = receipts.committed()
    return receipts.read([one for one in plan.partitions.ids if one in committed])
