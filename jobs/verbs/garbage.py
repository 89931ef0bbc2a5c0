"""gc: list what nothing reaches any more, and delete it after a second look. Moves no alias."""

from __future__ import annotations

import time
from typing import Any

from jobs.session import Session
from pipelines.garbage import Garbage, find_garbage
from pipelines.sweep import close_abandoned, in_both, sweep


def survey(session: Session) -> Garbage:
    """What nothing reaches now.

    Raises:
        SettingsError: in an array.
        GateRefused: a manifest that counts cannot be read.
    """
    session.refuse_array("gc")
    lease = session.settings.engine.lease
    # Whoever is at work gives a sign within a lease's time. One that begins after the look finds an abandoned run closed and
    # plans anew; what else it touches is seen by the second look.
    idle_s = max(session.settings.gc.idle_s, 2 * lease.ttl_s) + lease.max_skew_s
    return find_garbage(session.store, session.target, session.log, keep_releases=session.settings.index.keep_releases,
                        idle_s=idle_s, now_s=time.time())  # fmt: skip


def collect_garbage(session: Session, first: Garbage) -> dict[str, Any]:
    """Close what was abandoned, wait, look again, and delete what neither look reached.

    Raises:
        As ``survey``; TargetError when a generation went live meanwhile. Resumable by the same command.
    """
    grace_s = session.settings.gc.grace_s
    close_abandoned(session.store, first)
    if grace_s:
        session.say(
            f"gc: waiting {grace_s:.0f} s (gc.grace_s) before the second look; an interruption now loses nothing"
        )
        time.sleep(grace_s)
    agreed = in_both(first, survey(session))
    swept = sweep(session.store, session.target, session.settings.corpus, agreed, session.say)
    return {**describe(session, agreed), "deleted": {"generations": list(swept.generations), "runs": list(swept.runs),
                                                      "objects": swept.objects}}  # fmt: skip


def describe(session: Session, garbage: Garbage) -> dict[str, Any]:
    """``objects`` and ``bytes`` are of the object store alone, and without the records of ``half_dropped`` indices;
    ``deleted`` null: nothing was deleted."""
    generations = [{"generation": old.generation.name, "run_id": old.generation.meta.run_id, "rows": old.generation.rows,
                    "why": old.why} for old in garbage.generations]  # fmt: skip
    runs = [{"run_id": run.run_id, "number": run.number, "objects": run.objects, "bytes": run.bytes, "why": run.why}
            for run in garbage.runs]  # fmt: skip
    parts = {"objects": len(garbage.parts), "bytes": sum(part.size for part in garbage.parts)}
    return {
        "corpus": session.settings.corpus,
        "live": garbage.live,
        "generations": generations,
        "runs": runs,
        "parts": parts,
        "half_dropped": len(garbage.half_dropped),
        "objects": sum(run.objects for run in garbage.runs) + parts["objects"],
        "bytes": sum(run.bytes for run in garbage.runs) + parts["bytes"],
        "kept": [{"what": what, "why": why} for what, why in garbage.kept.items()],
        "deleted": None,
    }
