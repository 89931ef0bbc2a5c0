"""Embed: every pending partition into parts, then the manifest. Knows no index."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs.engines.engine import Beat
from jobs.session import Session
from pipelines.embed.work import EmbedTask, EmbedWork
from pipelines.manifest import Manifest, commit_manifest, read_manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import embed_receipts

_READERS = 16


def embed_run(session: Session, plan: Plan, *, only: set[str] | None = None) -> Manifest | None:
    """Embed what is pending and commit the manifest; a finished run is left as it is.

    Args:
        only: partition ids to try; None is returned when others are still pending.

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
            session.run_partitions("embed", plan, pending, EmbedWork, task, receipts=receipts,
                                   total_rows=rows, estimated=True, on_beat=count)  # fmt: skip
    if only is not None and plan.partitions.pending(receipts.committed()):
        return None
    return commit_manifest(session.store, plan, read_receipts(session, plan),
                           on_duplicate=settings.source.on_duplicate, limits=settings.limits)  # fmt: skip


def read_receipts(session: Session, plan: Plan) -> Mapping[str, dict[str, Any]]:
    """Every committed embed receipt of the run, by partition id."""
    receipts = embed_receipts(session.store, plan.run_id)
    committed = receipts.committed()
    ids = [one for one in plan.partitions.ids if one in committed]
    with ThreadPoolExecutor(_READERS) as pool:
        return {i: receipt for i, receipt in zip(ids, pool.map(receipts.find, ids), strict=True) if receipt}
