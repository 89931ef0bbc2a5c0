"""Repair: delete from a generation what does not belong and load what is missing or altered. Moves no alias."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from jobs.engines.engine import Work
from jobs.session import Session
from jobs.verbs.load import finish_index, lease_of_finishing, load_task
from jobs.verbs.verify import compare_all, gates_of_kind, remedies
from pipelines.errors import GateRefused, LeaseHeld
from pipelines.load import loads_finished, mark_finished
from pipelines.manifest import Manifest
from pipelines.plan.plan import Plan
from pipelines.receipts import Receipts, load_receipts
from pipelines.repair import ReloadWork, RemoveWork, remove_partition
from pipelines.targets.target import Generation
from pipelines.verify.gates import Gate, gate_of_replicas, gates_of_rows, is_mended_by_repair, strange_partitions
from pipelines.verify.rows import STRANGE
from pipelines.verify.searches import gate_of_recall, sample_vectors, search_sample


def repair_generation(session: Session, plan: Plan, manifest: Manifest, generation: Generation) -> dict[str, Any]:
    """Mend what differs; the load is finished anew, so that a verification is needed anew.

    Raises:
        GateRefused: nothing that a repair mends is wrong and something else is (Space, mapping, recall, copies that no
            node can hold); some partitions were never loaded; or the index refuses a row for good.
        PartitionsFailed, TargetError, Interrupted: resumable by the same command.
    """
    session.refuse_array("repair")
    receipts = load_receipts(session.store, plan.run_id, generation.name, generation.uuid)
    if pending := plan.partitions.pending(receipts.committed()):
        raise GateRefused(f"{len(pending)} of {len(plan.partitions)} partitions of {generation.name} were never loaded; "
                          "`backhaul load CONF` loads them")  # fmt: skip
    _must_be_mendable(generation, [gate for gate in gates_of_kind(session, manifest, generation) if not gate.passed])
    while True:
        try:
            with session.alone(plan.run_id, lease_of_finishing(generation)):
                return _repair(session, plan, manifest, generation, receipts)
        except LeaseHeld as held:
            session.say(f"repair: another process finishes or repairs {generation.name}; waiting for it")
            time.sleep(held.retry_after_s)


def _repair(session: Session, plan: Plan, manifest: Manifest, generation: Generation,
            receipts: Receipts) -> dict[str, Any]:  # fmt: skip
    outcomes = compare_all(session, plan, manifest, generation)
    stored = session.target.partitions(generation.name)
    gates = [*gates_of_rows(manifest, outcomes, stored), gate_of_replicas(session.target.health(generation.name))]
    failed = [gate for gate in gates if not gate.passed]
    finished = loads_finished(session.store, receipts)
    mendable = [gate for gate in failed if is_mended_by_repair(gate)]
    result: dict[str, Any] = {"run_id": plan.run_id, "generation": generation.name, "changed": True, "deleted": 0, "loaded": 0,
              "found": [{"name": gate.name, "found": gate.found, "detail": gate.detail} for gate in failed],
              "left": [{"message": text} for text in remedies(generation.name, [gate for gate in failed if gate not in mendable])],
              "next": f"backhaul verify CONF --generation {generation.name}"}  # fmt: skip
    if finished and not mendable:
        _must_be_mendable(
            generation, [gate for gate in (*failed, _recall(session, manifest, generation)) if not gate.passed]
        )
        return {**result, "changed": False}
    if finished:
        mark_finished(session.store, receipts)  # from here on no earlier proof holds, however this ends
    strangers = strange_partitions(manifest, stored)
    result["deleted"] = sum(remove_partition(session.target, generation.name, name) for name in strangers)
    wrong = [outcome for outcome in outcomes if outcome["problems"]]
    result["deleted"] += _run(session, plan, generation, RemoveWork,
                              {each["partition"] for each in wrong if STRANGE in each["problems"]})  # fmt: skip
    # What was deleted may have had the id of a row of any partition, and where ids can be there twice that one went too.
    suspects = {each["partition"] for each in (outcomes if result["deleted"] else wrong)}
    result["loaded"] = _run(session, plan, generation, ReloadWork, suspects)
    finish_index(session, receipts, generation)
    return result


def _run(session: Session, plan: Plan, generation: Generation, work: type[Work[Any]], partitions: set[str]) -> int:
    """How many rows it deleted or loaded. What fails is recorded as a failure of ``verify``: comparing again is what
    `backhaul retry` may do without being asked twice."""
    if not partitions:
        return 0
    some = plan.partitions.pending(set(), partitions)
    done = session.run_partitions("verify", plan, some, work, load_task(session, generation),
                                  workers=session.target.max_writers)  # fmt: skip
    return sum(outcome["rows"] for outcome in done)


def _recall(session: Session, manifest: Manifest, generation: Generation) -> Gate:
    settings = session.settings.verify
    sample = sample_vectors(session.store, manifest, settings.recall_queries)
    return gate_of_recall(search_sample(session.target, generation.name, sample, settings.recall_k), settings)


def _must_be_mendable(generation: Generation, failed: Sequence[Gate]) -> None:
    """Raises GateRefused where ``failed`` holds a gate, as no repair mends any of them."""
    if failed:
        lines = [f"  {gate.name}: {gate.found}{f' ({gate.detail})' if gate.detail else ''}" for gate in failed]
        raise GateRefused("\n".join([f"{generation.name} cannot be repaired, nothing was changed:", *lines,
                                     *remedies(generation.name, failed)]))  # fmt: skip
