"""One partition after the other in this process: what ``memory://`` and a debugger need. Same outcomes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import wait
from typing import Any

from jobs.engines.engine import Beat, Done, EngineSettings, Outcome, WorkSpec
from jobs.engines.pending import Pending
from jobs.engines.stop import StopSignals, interrupted
from jobs.engines.worker import fault_of
from pipelines.errors import BackhaulError, Interrupted, LeaseHeld

log = logging.getLogger(__name__)


def run_inline(spec: WorkSpec[Any], pending: Pending, settings: EngineSettings, on_beat: Callable[[Beat], None],
               leave_after_s: float | None) -> Generator[Outcome]:  # fmt: skip
    """As ``run_here``. The second signal breaks off the part in hand."""
    ended = 0
    with StopSignals(on_second=_break_off, stop_on_rebalance=settings.stop_on_rebalance) as stop:
        try:
            work = spec.work(spec.settings)
        except Exception as error:
            fault = _logged(error, "the work could not be built")
            yield from pending.give_up(fault.cause, fault.message, fault.exit_code)
            return
        work.report = lambda beat: on_beat(Beat.of(beat))
        work.stopping = lambda: stop.requested
        idle_since: float | None = None
        while pending:
            if not pending.ready:
                if leave_after_s is not None and idle_since and time.monotonic() - idle_since > leave_after_s:
                    yield from pending.leave()
                    return
                if wait([stop.wake], pending.wait_s):
                    stop.drain()
            if stop.requested:
                raise interrupted(ended, pending.total, stop.notice)
            if not pending.ready:
                continue
            partition = pending.take()
            try:
                outcome: Outcome = Done(partition, work(partition))
            except LeaseHeld as error:
                if left := pending.hold(partition, error.retry_after_s, str(error)):
                    yield left
                else:
                    idle_since = idle_since or time.monotonic()
                continue
            except (Interrupted, KeyboardInterrupt):
                raise interrupted(ended, pending.total, stop.notice) from None
            except Exception as error:
                fault = _logged(error, f"partition {partition.number} failed")
                outcome = pending.failed(partition, fault.cause, fault.message, fault.exit_code)
            ended, idle_since = ended + 1, None
            yield outcome
        if stop.requested:
            raise interrupted(ended, pending.total, stop.notice)


def _logged(error: Exception, what: str) -> Any:
    if not isinstance(error, BackhaulError):
        log.error(what, exc_info=error)
    return fault_of(error)


def _break_off() -> None:
    raise KeyboardInterrupt
