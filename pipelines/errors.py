"""Every error Backhaul raises on purpose, with the exit code the command line gives it.

BackhaulError                1   failed, resumable
├── SettingsError            2   wrong usage or settings
│   └── QueryRefused         2   a question that cannot be asked of this generation
├── GateRefused              3   a gate or limit refused
│   ├── SpaceMismatch        3   vectors of two Spaces would have been mixed
│   ├── NewerFormat          3   written by a later version of Backhaul
│   └── RunClosed            3   a run that was swept, or is about to be
├── StoreError               1   the object store refused or could not be reached
│   ├── NotFound             1
│   ├── Denied               1
│   └── SourceChanged        1   an object differs from the frozen listing
├── TargetError              1   the index refused or could not be reached
│   ├── NoGeneration         1   there is no generation of this name, or no longer
│   └── AliasMoved           1   a compare-and-swap lost against another release
├── EmbedderError            1   a remote embedder refused or could not be reached
├── LeaseHeld                1   another invocation has the partition in hand; no failure, ask again later
├── WorkerDied               1   a partition whose workers died again and again
└── Interrupted             75   told to stop; resumable, not a failure
"""

from __future__ import annotations


class BackhaulError(Exception):
    exit_code = 1

    @property
    def cause(self) -> str:
        """What failures are grouped by."""
        return type(self).__name__


class SettingsError(BackhaulError):
    exit_code = 2


class QueryRefused(SettingsError):
    pass


class GateRefused(BackhaulError):
    exit_code = 3


class SpaceMismatch(GateRefused):
    pass


class NewerFormat(GateRefused):
    pass


class RunClosed(GateRefused):
    pass


class StoreError(BackhaulError):
    pass


class NotFound(StoreError):
    pass


class Denied(StoreError):
    pass


class SourceChanged(StoreError):
    pass


class TargetError(BackhaulError):
    pass


class TargetHalted(TargetError):
    """The index as a whole refuses, or does not answer: no other partition would fare better."""

    @property
    def cause(self) -> str:
        return TargetHalted.__name__


class NoGeneration(TargetError):
    pass


class AliasMoved(TargetError):
    pass


class EmbedderError(BackhaulError):
    pass


class EmbedderHalted(EmbedderError):
    """The embedding service as a whole refuses, or does not answer: no other partition would fare better."""

    @property
    def cause(self) -> str:
        return EmbedderHalted.__name__


HALTS = {halt.__name__: halt for halt in (TargetHalted, EmbedderHalted)}
"""By cause: what ends a run, with no partition at fault."""


class LeaseHeld(BackhaulError):
    """``retry_after_s``: when it is worth asking again; infinite where it is not."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class WorkerDied(BackhaulError):
    pass


class Interrupted(BackhaulError):
    exit_code = 75
