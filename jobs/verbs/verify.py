"""Verify: run every gate against a generation and keep the result. Moves no alias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.session import Session
from jobs.verbs.load import load_task, settle_load
from pipelines.embed.backends import open_embedder
from pipelines.errors import GateRefused
from pipelines.load import loads_finished
from pipelines.manifest import Manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import load_receipts
from pipelines.space import Space
from pipelines.targets.target import Generation
from pipelines.verify.gates import (
    Gate,
    gate_of_dead_letters,
    gate_of_mapping,
    gate_of_replicas,
    gate_of_space,
    gates_of_rows,
    is_mended_by_repair,
)
from pipelines.verify.golden import (
    Golden,
    gate_of_golden,
    gate_of_golden_unasked,
    gate_of_overlap,
    rankings,
    read_golden,
)
from pipelines.verify.record import Verification, make_verification, newest_verification, record_verification
from pipelines.verify.rows import VerifyWork
from pipelines.verify.searches import (
    gate_of_latency,
    gate_of_recall,
    sample_vectors,
    search_documents,
    search_sample,
)


def verify_run(session: Session, plan: Plan, manifest: Manifest, generation: Generation) -> Verification:
    """Run the gates and record what they found, passed or not.

    Raises:
        SettingsError: in an array; or the golden queries cannot be read.
        GateRefused: the generation was never loaded to the end.
    """
    session.refuse_array("verify")
    settings, target = session.settings, session.target
    golden = read_golden(settings.verify.golden, settings.storage) if settings.verify.golden else []
    generation = settle_load(session, generation)
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    finished = loads_finished(session.store, receipts)
    if not finished:
        raise GateRefused(f"{generation.name} was never loaded to the end; run `backhaul load CONF` first")
    with session.timed("verify", plan.run_id, {"rows": manifest.rows}):
        outcomes = compare_all(session, plan, manifest, generation)
        kind = gates_of_kind(session, manifest, generation)
        gates = [
            *gates_of_rows(manifest, outcomes, target.partitions(generation.name)),
            gate_of_dead_letters(outcomes, settings.index.max_dead_letters),
            *kind,
            # An index of another dimension refuses these vectors, which its mapping's gate has told.
            *(
                []
                if "vector.dimension" in kind[1].detail
                else _gates_of_searches(session, manifest, generation, golden)
            ),
            gate_of_replicas(target.health(generation.name, wait_s=settings.verify.green_within_s)),
        ]
    verification = make_verification(generation, finished, gates)
    record_verification(session.store, settings.corpus, verification)
    return verification


def compare_all(session: Session, plan: Plan, manifest: Manifest, generation: Generation) -> list[dict[str, Any]]:
    """What differs in each partition."""
    return session.run_partitions("verify", plan, plan.partitions, VerifyWork, load_task(session, generation),
                                  total_rows=manifest.rows)  # fmt: skip


def gates_of_kind(session: Session, manifest: Manifest, generation: Generation) -> list[Gate]:
    """Whether it is the kind of index that these vectors and settings belong into, whatever rows it holds."""
    dimensions = Space(**manifest.space).dimensions
    return [gate_of_space(manifest, generation),
            gate_of_mapping(session.target.differences(generation.name, dimensions))]  # fmt: skip


def is_proved(session: Session, generation: Generation) -> bool:
    """Whether the newest verification passed after the last load."""
    proof = newest_verification(session.store, session.settings.corpus, generation)
    receipts = load_receipts(session.store, generation.meta.run_id, generation.name, generation.uuid)
    return proof is not None and proof.passed and proof.load == loads_finished(session.store, receipts)


def must_pass(verification: Verification) -> None:
    """Raises GateRefused naming each gate that failed, with what it found and what mends it."""
    failed = [gate for gate in verification.gates if not gate.passed]
    if failed:
        lines = [f"  {gate.name}: {gate.found}, wanted {gate.wanted}{f' ({gate.detail})' if gate.detail else ''}"
                 for gate in failed]  # fmt: skip
        raise GateRefused("\n".join([f"{verification.generation} failed its verification; the alias stays where it is:",
                                     *lines, *remedies(verification.generation, failed)]))  # fmt: skip


def remedies(generation: str, failed: Sequence[Gate]) -> list[str]:
    """What to do, each once with the gates that it is for. What repair does not mend comes first: it would refuse."""
    gates_by_mend: dict[str, list[str]] = {}
    for gate in sorted(failed, key=is_mended_by_repair):
        gates_by_mend.setdefault(gate.mend.replace("NAME", generation), []).append(gate.name)
    return [f"{', '.join(names)}: {mend}" for mend, names in gates_by_mend.items()]


def _gates_of_searches(session: Session, manifest: Manifest, generation: Generation,
                       golden: Sequence[Golden]) -> list[Gate]:  # fmt: skip
    """Recall, latency, golden queries where there are some, and what the live generation finds as well."""
    settings, target = session.settings.verify, session.target
    sample = sample_vectors(session.store, manifest, settings.recall_queries)
    searched = search_sample(target, generation.name, sample, settings.recall_k)
    gates = [gate_of_recall(searched, settings), gate_of_latency(searched, settings.max_p99_ms)]
    live = _live(session)
    if not golden:
        why_not = _not_comparable(generation, live, manifest.space)
        theirs = None if why_not or live is None else search_documents(target, live.name, sample, settings.recall_k)
        return [*gates, gate_of_overlap(searched.documents, theirs, why_not, settings.min_overlap)]
    lexical = settings.golden_mode == "lexical"
    embedder = None if lexical else open_embedder(session.settings.embed, session.settings.storage)
    if embedder and (difference := embedder.space.difference(Space(**generation.meta.space))):
        return [*gates, gate_of_golden_unasked(golden, difference),
                gate_of_overlap([], None, "the golden queries were not asked", settings.min_overlap)]  # fmt: skip
    mine = rankings(target, embedder, generation.name, golden, settings)
    why_not = _not_comparable(generation, live, None if lexical else manifest.space)
    theirs = None if why_not or live is None else rankings(target, embedder, live.name, golden, settings)
    return [
        *gates,
        gate_of_golden(golden, mine, settings),
        gate_of_overlap(mine, theirs, why_not, settings.min_overlap),
    ]


def _live(session: Session) -> Generation | None:
    name = session.target.live(session.settings.corpus)
    return session.target.find(name) if name else None


def _not_comparable(generation: Generation, live: Generation | None, space: dict[str, Any] | None) -> str:
    """Why the live generation cannot be asked the same; ``space`` is that of the queries, None where they are words."""
    if live is None:
        return "nothing is live"
    if live.name == generation.name:
        return "it is live itself"
    if live.rows is None:
        return f"shards of the live {live.name} do not answer"
    if space and (difference := Space(**space).difference(Space(**live.meta.space))):
        return f"the live {live.name} is of another Space ({'; '.join(difference)})"
    return ""
