"""One use of Backhaul: the settings, and what they open (store, target, engine), opened when first needed."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import orjson

from jobs.engines.backends import open_engine
from jobs.engines.engine import Beat, Done, Engine, Failed, Left, Work, WorkSpec
from jobs.engines.on_batch_array import ArrayChild, find_child
from jobs.failures import Failures
from jobs.progress import Progress
from jobs.settings import Settings
from pipelines.digest import canonical_json, digest_of
from pipelines.embed.backends import requested_maker, space_of
from pipelines.errors import HALTS, BackhaulError, GateRefused, NotFound, SettingsError
from pipelines.leased import LeasedTask, LeasedWork, alone
from pipelines.leases import Leases
from pipelines.model.choice import chosen
from pipelines.owner import this_owner
from pipelines.partition import Partition
from pipelines.plan.plan import Plan, find_run, list_runs, read_plan
from pipelines.receipts import Receipts
from pipelines.releases import ReleaseLog
from pipelines.space import RequestedMaker, Space
from pipelines.store import ObjectStore, open_store
from pipelines.targets.backends import open_target
from pipelines.targets.target import Generation, IndexTarget


class PartitionsFailed(BackhaulError):
    """Some partitions failed; the others are committed. ``exit_code`` 3 when each was refused by a gate."""

    def __init__(self, stage: str, failures: Sequence[Failed], total: int, *, shared: bool = False) -> None:
        lines = [f"  {f.partition.id}: {f.cause}: {f.message}" for f in failures[:5]]
        more = [f"  and {len(failures) - 5} more"] if len(failures) > 5 else []
        others = "the others are done, or in other hands" if shared else "the others are done"
        super().__init__(
            "\n".join([f"{stage}: {len(failures)} of {total} partitions failed, {others}:", *lines, *more,
                       "`backhaul failures CONF` groups them; after mending the cause, `backhaul retry CONF` runs them again."])
        )  # fmt: skip
        if all(failure.exit_code == GateRefused.exit_code for failure in failures):
            self.exit_code = GateRefused.exit_code


class Session:
    def __init__(self, settings: Settings, *, quiet: bool = False) -> None:
        self._given = settings
        self.quiet = quiet

    @cached_property
    def settings(self) -> Settings:
        """As given; ``embed.backend: auto`` is what it stands for now, so that a plan freezes it."""
        given = self._given
        if given.embed.backend != "auto":
            return given
        embed = chosen(given.embed, open_store(given.root, given.storage, create=True), given.storage)
        return given.model_copy(update={"embed": embed})

    @cached_property
    def store(self) -> ObjectStore:
        if self.settings.root.startswith("memory://") and self.settings.engine.workers:
            raise SettingsError("root memory:// lives in one process only; set engine.workers: 0, or another root")
        return open_store(self.settings.root, self.settings.storage, create=True)

    @cached_property
    def target(self) -> IndexTarget:
        self.store  # noqa: B018  # its error comes first
        s = self.settings
        return open_target(s.index, s.root, s.storage, s.corpus)

    @cached_property
    def log(self) -> ReleaseLog:
        return ReleaseLog(self.store, self.settings.corpus)

    @cached_property
    def space(self) -> Space:
        return space_of(self.settings.embed, self.settings.storage)

    @cached_property
    def maker(self) -> RequestedMaker:
        return requested_maker(self.settings.embed, self.settings.storage)

    @cached_property
    def engine(self) -> Engine:
        return open_engine(self.settings.engine)

    @cached_property
    def child(self) -> ArrayChild | None:
        """Which child of an array this process is, if it is one."""
        engine = self.settings.engine
        return find_child(engine.batch_array) if engine.name == "batch_array" else None

    @cached_property
    def invocation(self) -> str:
        """Whose leases these are: this driver's with all its workers, or this array child's."""
        return uuid.uuid4().hex

    @cached_property
    def deciding(self) -> dict[str, Any]:
        """What decides rows and vectors: never root, engine, index, limits or credentials."""
        s = self.settings
        source = s.source.model_dump(mode="json", exclude={"uri", "storage"})
        value = {
            "source": source,
            "partition": s.partition.model_dump(mode="json"),
            "split": s.split.model_dump(mode="json"),
            "rows_per_part": s.embed.rows_per_part,
            "space": self.space.to_json(),
            "maker": self.maker.to_json(),
        }
        if s.embed.dtype != "float32":  # as it was before there was a choice, a run of the default keeps its id
            value["dtype"] = s.embed.dtype
        plain: dict[str, Any] = orjson.loads(canonical_json(value))
        return plain

    def plan(self, run_id: str | None = None) -> Plan:
        """The run addressed by ``--run``, or the newest whose deciding settings equal these.

        Raises:
            SettingsError: there is none, with the command that makes one.
        """
        corpus = self.settings.corpus
        if run_id is None:
            record = find_run(self.store, corpus, self.deciding)
            if record is None:
                raise SettingsError(f"corpus {corpus} has no run with these settings; `backhaul run CONF` makes one")
            run_id = record.run_id
        else:
            matches = {r.run_id for r in list_runs(self.store, corpus) if r.run_id.startswith(run_id)}
            if len(matches) != 1:
                known = ", ".join(r.run_id[:12] for r in list_runs(self.store, corpus)[-5:]) or "none"
                raise SettingsError(
                    f"corpus {corpus} has {len(matches)} runs that begin with {run_id!r}; newest: {known}"
                )
            run_id = matches.pop()
        try:
            return read_plan(self.store, run_id)
        except NotFound as error:
            raise SettingsError(f"run {run_id} has lost its plan ({error}); run with --replan") from error

    def generation_name(self, run_id: str) -> str:
        return f"{self.settings.corpus}-{run_id[:12]}-{digest_of(self.settings.index.deciding())[:8]}"

    def live(self) -> Generation:
        """Raises SettingsError when the corpus has no live generation."""
        name = self.target.live(self.settings.corpus)
        found = self.target.find(name) if name else None
        if found is None:
            raise SettingsError(f"corpus {self.settings.corpus} has no live generation; `backhaul run CONF` makes one")
        return found

    def refuse_array(self, verb: str) -> None:
        """Raises SettingsError in an array, every child of which would do all of ``verb``."""
        if self.child:
            once = f"backhaul {verb} CONF --set engine.name=local"
            raise SettingsError(f"the children of an array embed and load; {verb} is done once, after them: `{once}`")

    def alone(self, run_id: str, what: str) -> AbstractContextManager[None]:
        """A block that one driver is in at a time, as far as a lease can say so; LeaseHeld for the others."""
        folder, owner = f"runs/{run_id}/leases/drivers", this_owner(self.invocation)
        return alone(Leases(self.store, folder, owner, self.settings.engine.lease), what)

    def say(self, text: str) -> None:
        """A line about what is going on, on standard error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def run_partitions(self, stage: str, plan: Plan, pending: Sequence[Partition], work: type[Work[Any]], task: Any,
                       *, receipts: Receipts | None = None, workers: int | None = None, total_rows: int | None = None,
                       estimated: bool = False, on_beat: Callable[[Beat], None] = lambda beat: None,
                       ) -> list[dict[str, Any]]:  # fmt: skip
        """Run a Work over pending partitions with progress; receipts in the order they ended. Where its ``receipts``
        are given, each partition is done under its lease, so that two invocations share the work.

        Raises:
            PartitionsFailed: after the others are done; each failure is recorded for ``backhaul failures``.
            TargetHalted, EmbedderHalted: at once, and no partition is at fault.
            Interrupted: told to stop.
        """
        spec = WorkSpec(work, task) if receipts is None else self._leased(work, task, receipts)
        recorded = Failures(self.store, plan.run_id)
        failed_before = recorded.ids(stage)
        finished, failures, shared = [], [], False
        if total_rows is not None and self.child:
            total_rows = total_rows // self.child.of  # about what this child will do of it
        done = len(plan.partitions) - len(pending)
        with Progress(stage, len(plan.partitions), done, total_rows, estimated=estimated, quiet=self.quiet) as progress:

            def beat(beat: Beat) -> None:
                on_beat(beat)
                progress.beat(beat)

            outcomes = self.engine.run(spec, pending, workers=workers, on_beat=beat)
            for outcome in outcomes:
                if isinstance(outcome, Left):
                    shared = True
                    continue
                if isinstance(outcome, Failed) and (halt := HALTS.get(outcome.cause)):
                    outcomes.close()  # the parts in hand as well: none of them can end well
                    raise halt(f"{stage} stopped: {outcome.message}")
                if isinstance(outcome, Done):
                    finished.append(outcome.receipt)
                    if outcome.partition.id in failed_before:
                        recorded.clear(stage, [outcome.partition.id])
                else:
                    failures.append(outcome)
                    recorded.record(stage, outcome)
                progress.partition_done()
        if failures:
            raise PartitionsFailed(stage, failures, len(pending), shared=shared)
        return finished

    def _leased(self, work: type[Work[Any]], task: Any, receipts: Receipts) -> WorkSpec[Any]:
        s, engine = self.settings, self.settings.engine
        leased = LeasedTask(
            work=work, settings=task, root=s.root, storage=s.storage, receipts=receipts.folder, leases=receipts.leases,
            on_demand=receipts.on_demand, invocation=self.invocation, lease=engine.lease,
            # Where a worker's death ends the whole invocation, nobody else can count.
            max_deaths=engine.max_attempts if engine.name == "batch_array" or engine.workers == 0 else None,
            on_demand_after=engine.on_demand_after, own=self.child.owns if self.child else None)  # fmt: skip
        return WorkSpec(LeasedWork, leased)

    @contextmanager
    def timed(self, stage: str, run_id: str, facts: dict[str, Any]) -> Iterator[None]:
        """Keep the seconds of one invocation's stage under ``attempts/``, where facts that differ belong; however it
        ends, they were paid for."""
        began, at_ms = time.monotonic(), int(time.time() * 1000)
        try:
            yield
        finally:
            record = {"stage": stage, "seconds": round(time.monotonic() - began, 3), "at_ms": at_ms, **facts}
            key = f"runs/{run_id}/attempts/driver/{at_ms:013d}-{uuid.uuid4().hex[:8]}.json"
            self.store.put(key, canonical_json(record))


def invocations(session: Session, run_id: str) -> list[Mapping[str, Any]]:
    """What ``timed`` kept, oldest first."""
    keys = sorted(found.key for found in session.store.list(f"runs/{run_id}/attempts/driver/"))
    return [orjson.loads(session.store.get(key)) for key in keys]
