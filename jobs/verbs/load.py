"""Load: a generation for this run and these index settings, filled from the manifest. Releases nothing."""

from __future__ import annotations

from collections import Counter

from jobs.session import Session
from pipelines.errors import GateRefused
from pipelines.load import LoadTask, LoadWork, loads_finished, mark_finished
from pipelines.manifest import Manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import Receipts, load_receipts
from pipelines.targets.target import Generation, Meta


def load_run(session: Session, plan: Plan, manifest: Manifest, *, only: set[str] | None = None) -> Generation:
    """Create the generation if need be and load what is pending; a finished load is left as it is.

    Args:
        only: partition ids to try; the load is not finished while others are pending.

    Raises:
        GateRefused: more dead letters than ``index.max_dead_letters``.
        TargetError, PartitionsFailed, Interrupted: resumable.
    """
    settings, target = session.settings, session.target
    meta = Meta(settings.corpus, plan.run_id, manifest.space, settings.source.fields.metadata)
    generation = target.create(session.generation_name(plan.run_id), meta, plan.space.dimensions)
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    pending = plan.partitions.pending(receipts.committed(), only)
    if not pending and loads_finished(session.store, receipts):
        session.say(f"load: {generation.name} holds {generation.rows} rows already; nothing to load")
    else:
        with session.timed("load", plan.run_id, {"rows": manifest.rows}):
            target.begin_load(generation.name)
            wanted = set(pending.ids)
            rows = sum(entry.rows for entry in manifest.entries if entry.partition in wanted)
            session.run_partitions("load", plan, pending, LoadWork, load_task(session, generation),
                                   receipts=receipts, workers=target.max_writers, total_rows=rows)  # fmt: skip
            if plan.partitions.pending(receipts.committed()):
                return generation  # restricted by ``only``: the rest is still to come
            target.finish_load(generation.name)
            mark_finished(session.store, receipts)
    _check_dead_letters(session, receipts, generation)
    return target.find(generation.name) or generation


def load_task(session: Session, generation: Generation) -> LoadTask:
    s = session.settings
    return LoadTask(root=s.root, storage=s.storage, corpus=s.corpus, index=s.index, run_id=generation.meta.run_id,
                    generation=generation.name, index_uuid=generation.uuid)  # fmt: skip


def dead_letter_counts(receipts: Receipts) -> Counter[str]:
    """Rows that the index refused for good, by cause."""
    counts: Counter[str] = Counter()
    for partition_id in receipts.committed():
        if receipt := receipts.find(partition_id):
            counts.update(receipt["rejects"]["counts"])
    return counts


def _check_dead_letters(session: Session, receipts: Receipts, generation: Generation) -> None:
    counts = dead_letter_counts(receipts)
    limit = session.settings.index.max_dead_letters
    if counts.total() > limit:
        causes = ", ".join(f"{cause} {count}" for cause, count in counts.most_common(5))
        raise GateRefused(
            f"{generation.name}: the index refused {counts.total()} rows for good ({causes}), over "
            f"index.max_dead_letters {limit}; `backhaul failures CONF` shows them with the reason the index gave. "
            "Mend the cause and run `backhaul drop CONF --generation NAME` and `backhaul load CONF`, or raise the limit."
        )
