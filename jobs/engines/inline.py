"""One partition after the other in this process: what ``memory://`` and a debugger need. Same outcomes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jobs.engines.engine import Beat, Done, Failed, WorkSpec
from jobs.engines.stop import StopSignals, interrupted
from jobs.engines.worker import fault_of
from pipelines.errors import BackhaulError, Interrupted
from pipelines.partition import Partition

log = logging.getLogger(__name__)


def run_inline(spec: WorkSpec[Any], partitions: Sequence[Partition],
               on_beat: Callable[[Beat], None]) -> Iterator[Done | Failed]:  # fmt: skip
    """As ``Engine.run``. The second signal breaks off the part in hand."""
    with StopSignals(on_second=_break_off) as stop:
        try:
            work = spec.work(spec.settings)
        except Exception as error:
            fault = _logged(error, "the work could not be built")
            for partition in partitions:
                yield Failed(partition, fault.cause, fault.message, fault.exit_code, attempts=1)
            return
        work.report = lambda beat: on_beat(Beat(beat.rows, beat.tokens))
        work.stopping = lambda: stop.requested
        for ended, partition in enumerate(partitions):
            try:
                if stop.requested:
                    raise Interrupted
                outcome: Done | Failed = Done(partition, work(partition))
            except (Interrupted, KeyboardInterrupt):
                raise interrupted(ended, len(partitions)) from None
            except Exception as error:
                fault = _logged(error, f"partition {partition.number} failed")
                outcome = Failed(partition, fault.cause, fault.message, fault.exit_code, attempts=1)
            yield outcome
        if stop.requested:
            raise interrupted(len(partitions), len(partitions))


def _logged(error: Exception, what: str) -> Any:
    if not isinstance(error, BackhaulError):
        log.error(what, exc_info=error)
    return fault_of(error)


def _break_off() -> None:
    raise KeyboardInterrupt
