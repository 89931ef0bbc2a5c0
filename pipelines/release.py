"""Make a proved generation live, or go back, as one compare-and-swap. Loads and proves nothing."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import AliasMoved, GateRefused, SettingsError, TargetError
from pipelines.load import loads_finished
from pipelines.plan.plan import list_runs
from pipelines.receipts import load_receipts
from pipelines.releases import ReleaseLog
from pipelines.store import Store
from pipelines.targets.target import Generation, IndexTarget
from pipelines.verify.record import newest_verification


@dataclass(frozen=True, slots=True)
class Released:
    """``changed`` is False when the generation was live already."""

    generation: str
    previous: str | None
    changed: bool


def release(store: Store, target: IndexTarget, log: ReleaseLog, corpus: str, generation: Generation, *,
            force: bool = False) -> Released:  # fmt: skip
    """Move the alias to ``generation``.

    Raises:
        GateRefused: its newest verification did not pass after its last load, or a load of it was broken off; or,
            without ``force``, its run was planned earlier than the live one.
        AliasMoved: another release came first.
    """
    _must_be_set_for_searching(generation)
    _must_be_proved(store, corpus, generation)
    live = target.live(corpus)
    if live is not None and live != generation.name and not force:
        _must_be_newer(store, target, corpus, generation, live)
    return _move(target, log, corpus, live, generation.name)


def rollback(target: IndexTarget, log: ReleaseLog, corpus: str, to: str | None = None) -> Released:
    """Move the alias back one release, or to ``to``. Repeated, it goes back further, never forth again.

    Raises:
        SettingsError: there is no earlier release, or its index is gone.
        GateRefused: a load of it was broken off.
    """
    found = find_rollback(target, log, corpus, to)
    _must_be_set_for_searching(found)
    return _move(target, log, corpus, target.live(corpus), found.name)


def find_rollback(target: IndexTarget, log: ReleaseLog, corpus: str, to: str | None = None) -> Generation:
    """Where ``rollback`` goes. Of one that was broken off after it had moved the alias only the record is missing: the
    same command completes that and goes no further back.

    Raises:
        SettingsError: as ``rollback``.
    """
    live = target.live(corpus)
    if live is None:
        raise SettingsError(
            f"corpus {corpus} has no live generation to roll back from; `backhaul release CONF` makes one live"
        )
    newest = log.newest(target.id)
    moved = newest is not None and newest.generation != live and log.before(target.id, newest.generation) == live
    if to is None and moved:
        to = live
    if to is None:
        _repair_log(target, log, live)
        to = log.before(target.id, live)
    if to is None:
        raise SettingsError(f"corpus {corpus} has no release before {live}; `backhaul list CONF` shows its generations")
    found = target.find(to)
    if found is None:
        raise SettingsError(f"generation {to} no longer exists; `backhaul list CONF` shows what can go live")
    return found


def _must_be_set_for_searching(generation: Generation) -> None:
    if generation.loading:
        raise GateRefused(
            f"generation {generation.name} is set for loading, not for searching: a load of it was broken off, or is under "
            "way. `backhaul load CONF` goes on with it, then `backhaul verify CONF` proves it"
        )


def _must_be_proved(store: Store, corpus: str, generation: Generation) -> None:
    proof = newest_verification(store, corpus, generation)
    if proof is None:
        raise GateRefused(f"generation {generation.name} was never verified; run `backhaul verify CONF` first")
    if not proof.passed:
        failed = ", ".join(f"{gate.name}: {gate.found}" for gate in proof.gates if not gate.passed)
        raise GateRefused(
            f"generation {generation.name} failed its verification ({failed}); the alias stays where it is"
        )
    receipts = load_receipts(store, generation.meta.run_id, generation.name, generation.uuid)
    if proof.load != loads_finished(store, receipts):
        raise GateRefused(
            f"generation {generation.name} was loaded again after its verification; run `backhaul verify CONF`"
        )


def _must_be_newer(store: Store, target: IndexTarget, corpus: str, generation: Generation, live: str) -> None:
    found = target.find(live)
    numbers = {record.run_id: record.number for record in list_runs(store, corpus)}
    if found is None or found.meta.run_id == generation.meta.run_id:
        return
    if numbers.get(generation.meta.run_id, 0) < numbers.get(found.meta.run_id, 0):
        raise GateRefused(
            f"generation {generation.name} was planned earlier than the live one, {live}; "
            "`backhaul release CONF --force` releases it all the same, `backhaul rollback CONF` goes back one release"
        )


def _move(target: IndexTarget, log: ReleaseLog, corpus: str, live: str | None, to: str) -> Released:
    if live != to:
        try:
            target.move_alias(corpus, live, to)
        except AliasMoved:
            if target.live(corpus) != to:  # else another process released the same
                raise
    if target.live(corpus) != to:
        raise AliasMoved(f"another release of {corpus} came first: {target.live(corpus)} is live, not {to}")
    _repair_log(target, log, to)
    return Released(to, live if live != to else None, live != to)


def _repair_log(target: IndexTarget, log: ReleaseLog, live: str) -> None:
    """Where the alias is the truth its record may be missing (a kill in between): write it now."""
    for _ in range(10):
        newest = log.newest(target.id)
        if newest and newest.generation == live:
            return
        if log.append(target.id, live, after=newest):
            return
    raise TargetError(f"the release of {live} could not be recorded: others keep releasing; run the command again")
