"""Load: a generation for this run and these index settings, filled from the manifest. Releases nothing."""

from __future__ import annotations

import time
from typing import Any

from jobs.session import Session
from jobs.verbs.embed import unfinished
from pipelines.dead_letters import Rejects, total
from pipelines.drop import drop_index
from pipelines.errors import GateRefused, LeaseHeld, TargetError
from pipelines.load import (
    LoadTask,
    LoadWork,
    loads_finished,
    mark_finished,
    must_read_manifest,
    outdate_verifications,
)
from pipelines.manifest import Manifest
from pipelines.plan.partitions import Partitions
from pipelines.plan.plan import Plan
from pipelines.read.reader import SourceSettings
from pipelines.receipts import Receipts, load_receipts
from pipelines.targets.target import Generation, Meta


def load_corpus(session: Session, run_id: str | None) -> dict[str, Any]:
    """Load the run addressed by ``--run`` or by the settings. ``complete`` is False where an array's other children
    still have some of it.

    Raises:
        As ``load_run``; NotFound while the run has no manifest.
    """
    session.engine  # noqa: B018  # an array child that cannot know which it is must not touch the index
    plan = session.plan(run_id)
    generation = load_run(session, plan, must_read_manifest(session.store, plan.run_id))
    generation = generation or session.target.find(session.generation_name(plan.run_id))
    name, uuid = (generation.name, generation.uuid) if generation else ("", "")
    receipts = load_receipts(session.store, plan.run_id, name, uuid)
    state = unfinished(session, "load", plan, receipts)
    complete = not state["pending"] and loads_finished(session.store, receipts) > 0
    result = {"run_id": plan.run_id, "complete": complete and generation is not None and not generation.loading,
              "generation": name or None, "rows": generation.rows if generation else None}  # fmt: skip
    return result if result["complete"] else {**result, **state}


def load_run(session: Session, plan: Plan, manifest: Manifest, *, only: set[str] | None = None) -> Generation | None:
    """Create the generation if need be and load what is pending; a finished load is left as it is. One that has lost
    rows for good with their nodes is dropped and made anew, unless it is live.

    Args:
        only: partition ids to try; the load is not finished while others are pending.

    Returns:
        The generation as it is now, though others are pending or in the hands of an array's other children; None for
        an array child that the target has no writer for.

    Raises:
        GateRefused: more dead letters than ``index.max_dead_letters``.
        TargetError, PartitionsFailed, Interrupted: resumable.
        LeaseHeld: another process drops the generation.
    """
    settings, target, writers = session.settings, session.target, session.target.max_writers
    if session.child and (writers := session.child.writers(target.max_writers)) == 0:
        session.say(f"load: at most {target.max_writers} may write to {settings.index.target} at once, which the array's "
                    f"first children do; child {session.child.index} of {session.child.of} leaves")  # fmt: skip
        return None
    meta = Meta(settings.corpus, plan.run_id, manifest.space, *_metadata(settings.source))
    name = session.generation_name(plan.run_id)
    _drop_if_lost(session, plan, name)
    generation = target.create(name, meta, plan.space.dimensions, rows=manifest.rows)
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    finished, pending = loads_finished(session.store, receipts), plan.partitions.pending(receipts.committed(), only)
    if finished and not pending and not generation.loading:
        session.say(f"load: {generation.name} holds {generation.rows} rows already; nothing to load")
    else:
        with session.timed("load", plan.run_id, {"rows": manifest.rows}):
            again = False
            if pending:
                outdate_verifications(session.store, receipts)
                finished = loads_finished(session.store, receipts)
                target.begin_load(generation.name)
                pending = plan.partitions.pending(receipts.committed(), only)
                # Who saw the last receipt in between may have finished before our beginning: then finish after it.
                again = not pending
            _load_pending(session, plan, manifest, generation, receipts, pending, writers)
            if plan.partitions.pending(receipts.committed()) or not _finish(
                session, receipts, generation, finished, again=again
            ):
                return target.find(generation.name) or generation
    check_dead_letters(session, receipts, generation)
    return target.find(generation.name) or generation


def _metadata(source: SourceSettings) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names of the metadata fields, and the types of those that are no keyword."""
    types = source.fields.metadata_types
    return tuple(types), {name: kind for name, kind in types.items() if kind != "keyword"}


def settle_load(session: Session, generation: Generation) -> Generation:
    """Finish what a load that was killed left of a generation that holds all its rows, or was finished before: it is
    still set for loading. One that has to be resumed is left as it is.

    Raises:
        TargetError: as ``finish_load``.
    """
    if not generation.loading:
        return generation
    plan = session.plan(generation.meta.run_id)
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    finished = loads_finished(session.store, receipts)
    if not finished and plan.partitions.pending(receipts.committed()):
        return generation
    session.say(f"load: {generation.name} is still set for loading; finishing what was begun")
    _finish(session, receipts, generation, finished, again=False)
    return session.target.find(generation.name) or generation


def _drop_if_lost(session: Session, plan: Plan, name: str) -> None:
    """Raises TargetError for a live generation: what is left of it answers until another one is live."""
    target, seen = session.target, session.target.find(name)
    if seen is None or seen.rows is not None or not (lost := target.lost(name)):
        return
    if target.live(session.settings.corpus) == name:
        other = f"index.ef_construction={session.settings.index.ef_construction + 1}"
        raise TargetError(
            f"{name} is live and has lost {lost}. It is not dropped while it is live: `backhaul rollback CONF` makes the "
            "one before it live, then `backhaul run CONF` makes this one anew from its parts. If there is none before it, "
            f"`backhaul run CONF --set {other}` makes one beside it from the same parts and releases that"
        )
    with session.alone(plan.run_id, f"drop-{name}"):
        found = target.find(name)
        if found and found.uuid == seen.uuid:  # else another process made it anew meanwhile
            session.say(f"load: {name} has lost {lost}. It is not live: it is dropped and loaded anew from its parts; "
                        "nothing is embedded")  # fmt: skip
            drop_index(session.store, target, session.settings.corpus, found)


def _load_pending(session: Session, plan: Plan, manifest: Manifest, generation: Generation, receipts: Receipts,
                  pending: Partitions, writers: int | None) -> None:  # fmt: skip
    wanted = set(pending.ids)
    rows = sum(entry.rows for entry in manifest.entries if entry.partition in wanted)
    session.run_partitions("load", plan, pending, LoadWork, load_task(session, generation),
                           receipts=receipts, workers=writers, total_rows=rows)  # fmt: skip


def _finish(session: Session, receipts: Receipts, generation: Generation, before: int, *, again: bool) -> bool:
    """Finish the load unless another process has, since ``before`` (``again``, or it is set for loading: though it has).
    False for an array's child while another process is at it.
    """
    while True:
        try:
            with session.alone(generation.meta.run_id, lease_of_finishing(generation)):
                if again or loads_finished(session.store, receipts) == before or _is_loading(session, generation):
                    finish_index(session, receipts, generation)
                return True
        except LeaseHeld as held:
            if session.child and not again:
                return False
            session.say(f"load: another process finishes {generation.name}; waiting for it")
            time.sleep(held.retry_after_s)


def lease_of_finishing(generation: Generation) -> str:
    """Whoever holds it alone finishes the load of this index, or repairs it."""
    return f"finish-{generation.name}-{generation.uuid}"


def finish_index(session: Session, receipts: Receipts, generation: Generation) -> None:
    """Show and merge what was loaded, restore the index's settings, and mark the load finished. Raises TargetError when
    rows are lacking."""
    session.target.finish_load(generation.name)
    _must_hold(session, receipts, generation)
    mark_finished(session.store, receipts)


def _is_loading(session: Session, generation: Generation) -> bool:
    found = session.target.find(generation.name)
    return found is not None and found.loading


def _must_hold(session: Session, receipts: Receipts, generation: Generation) -> None:
    """Raises TargetError naming a partition of which the index holds fewer or more rows than its receipt says."""
    stored, committed = session.target.partitions(generation.name), receipts.read(sorted(receipts.committed()))
    refused = load_task(session, generation).dead_letters(session.store).all_now(committed)
    for partition_id, receipt in committed.items():
        rows = receipt["rows"]
        if partition_id in refused:  # some of them may have been taken since
            rows += sum(receipt["rejects"]["counts"].values()) - sum(refused[partition_id]["counts"].values())
        if rows != stored.get(partition_id, 0):
            raise TargetError(
                f"{generation.name} holds {stored.get(partition_id, 0)} rows of partition {partition_id[:12]}, of which "
                f"{rows} were loaded: it has lost some since, or somebody else writes to it. `backhaul repair CONF "
                f"--generation {generation.name} --yes` loads what is missing and deletes what does not belong"
            )


def load_task(session: Session, generation: Generation) -> LoadTask:
    s = session.settings
    return LoadTask(root=s.root, storage=s.storage, corpus=s.corpus, index=s.index, run_id=generation.meta.run_id,
                    generation=generation.name, index_uuid=generation.uuid)  # fmt: skip


def refused_rows(session: Session, receipts: Receipts, generation: Generation) -> dict[str, Rejects]:
    """Dead letters as they are now, by partition id, where there ever were some."""
    letters = load_task(session, generation).dead_letters(session.store)
    return letters.all_now(receipts.read(sorted(receipts.committed())))


def check_dead_letters(session: Session, receipts: Receipts, generation: Generation) -> None:
    """Raises GateRefused when there are more than the settings allow."""
    counts = total(refused_rows(session, receipts, generation).values())
    limit = session.settings.index.max_dead_letters
    if counts.total() > limit:
        causes = ", ".join(f"{cause} {count}" for cause, count in counts.most_common(5))
        raise GateRefused(
            f"{generation.name}: the index refused {counts.total()} rows for good ({causes}), over "
            f"index.max_dead_letters {limit}; `backhaul failures CONF` shows them with the reason the index gave. "
            "Mend the cause, then `backhaul retry CONF` sends them again; or raise the limit."
        )
