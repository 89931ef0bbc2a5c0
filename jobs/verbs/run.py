"""Run: plan, embed, load, verify and release, each of which does only what is missing."""

from __future__ import annotations

import time
from typing import Any

from jobs.session import Session
from jobs.verbs.card import write_card
from jobs.verbs.embed import embed_run
from jobs.verbs.load import load_run
from jobs.verbs.plan import describe_plan, open_or_plan
from jobs.verbs.verify import is_proved, must_pass, verify_run
from pipelines.errors import GateRefused, SettingsError
from pipelines.release import release


def run_corpus(session: Session, *, replan: bool = False, force: bool = False) -> dict[str, Any]:
    """The whole job. Running it again does nothing twice.

    Raises:
        GateRefused: a gate refused; the alias stays where it was.
        PartitionsFailed, TargetError, StoreError, Interrupted: resumable by the same command.
    """
    began = time.monotonic()
    session.refuse_array("run")
    session.engine  # noqa: B018  # nor may an engine that cannot run be found out after planning
    # An index that nobody can reach, or that cannot hold this one, is told before anything is paid for.
    if refusals := session.target.refusals():
        raise SettingsError("the index cannot hold what the settings ask for:\n  " + "\n  ".join(refusals))
    planned = open_or_plan(session, replan=replan)
    plan, before = planned.plan, describe_plan(session, planned)
    session.say(
        f"run {plan.run_id[:12]} ({planned.how}): {before['partitions']} partitions, about "
        f"{before['documents_estimated']} documents and {before['tokens_estimated']} tokens; "
        f"{before['embedded_partitions']} partitions are embedded already"
    )
    manifest = embed_run(session, plan)
    assert manifest is not None  # only a restricted embedding, or that of an array child, may end without one
    generation = load_run(session, plan, manifest)
    assert generation is not None  # only an array child may not load
    try:
        if is_proved(session, generation):
            session.say(f"verify: {generation.name} was proved after its last load")
        else:
            verification = verify_run(session, plan, manifest, generation)
            for gate in verification.gates:
                session.say(f"gate {gate.name}: {'passed' if gate.passed else 'FAILED'} ({gate.found})")
            must_pass(verification)
        released = release(session.store, session.target, session.log, session.settings.corpus, generation, force=force)
    except GateRefused:
        write_card(session, plan)  # it shows what was refused
        raise
    card = write_card(session, plan)
    embedded = before["partitions"] - before["embedded_partitions"] if not before["manifest"] else 0
    return {
        "run_id": plan.run_id,
        "how": planned.how,
        "generation": released.generation,
        "released": released.changed,
        "previous": released.previous,
        "rows": manifest.rows,
        "documents": manifest.totals["documents"],
        "partitions_embedded": embedded,
        "content_digest": manifest.content_digest,
        "bytes_digest": manifest.bytes_digest,
        "rejects": manifest.totals["rejects"],
        "ledger": manifest.totals["ledger"],
        "tokens_per_second": card["tokens_per_second"],
        "usd": card["usd"],
        "billed": card["billed"],
        "seconds": round(time.monotonic() - began, 2),
        "card": card["uri"],
    }
