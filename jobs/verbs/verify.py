"""Verify: run every gate against a generation and keep the result. Moves no alias."""

from __future__ import annotations

from jobs.session import Session
from jobs.verbs.load import load_task
from pipelines.errors import GateRefused
from pipelines.load import loads_finished
from pipelines.manifest import Manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import load_receipts
from pipelines.targets.target import Generation
from pipelines.verify import (
    Verification,
    VerifyWork,
    gate_of_dead_letters,
    gate_of_recall,
    gate_of_space,
    gates_of_rows,
    make_verification,
    newest_verification,
    record_verification,
    sample_vectors,
)


def verify_run(session: Session, plan: Plan, manifest: Manifest, generation: Generation) -> Verification:
    """Run the gates and record what they found, passed or not. Raises SettingsError in an array."""
    session.refuse_array("verify")
    settings, target = session.settings, session.target
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    finished = loads_finished(session.store, receipts)
    if not finished:
        raise GateRefused(f"{generation.name} was never loaded to the end; run `backhaul load CONF` first")
    with session.timed("verify", plan.run_id, {"rows": manifest.rows}):
        outcomes = session.run_partitions("verify", plan, plan.partitions, VerifyWork, load_task(session, generation),
                                          total_rows=manifest.rows)  # fmt: skip
        gates = [
            *gates_of_rows(manifest, outcomes, target.partitions(generation.name)),
            gate_of_dead_letters(outcomes, settings.index.max_dead_letters),
            gate_of_space(manifest, generation),
            gate_of_recall(target, generation.name,
                           sample_vectors(session.store, manifest, settings.verify.recall_queries), settings.verify),
        ]  # fmt: skip
    verification = make_verification(generation, finished, gates)
    record_verification(session.store, settings.corpus, verification)
    return verification


def is_proved(session: Session, generation: Generation) -> bool:
    """Whether the newest verification passed after the last load."""
    proof = newest_verification(session.store, session.settings.corpus, generation)
    receipts = load_receipts(session.store, generation.meta.run_id, generation.name, generation.uuid)
    return proof is not None and proof.passed and proof.load == loads_finished(session.store, receipts)


def must_pass(verification: Verification) -> None:
    """Raises GateRefused naming each gate that failed, with what it found."""
    failed = [gate for gate in verification.gates if not gate.passed]
    if failed:
        lines = [f"  {gate.name}: {gate.found}, wanted {gate.wanted}{f' ({gate.detail})' if gate.detail else ''}"
                 for gate in failed]  # fmt: skip
        raise GateRefused("\n".join([f"{verification.generation} failed its verification; the alias stays where it is:",
                                     *lines, "Drop it with `backhaul drop CONF --generation NAME`, "
                                     "then `backhaul run CONF` loads it anew from its parts."]))  # fmt: skip
