"""Vectors by jobs over files in S3: the texts of one part become one job, and every record of its output is matched
with its text by id and by the text itself. What a job leaves out goes into the next round.

A job's name is the digest of what it embeds: whoever comes back after a kill finds the job that is already paid for
instead of starting another. Knows no service: a JobApi starts, finds and reads jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from pipelines.backoff import Backoff
from pipelines.clock import SYSTEM, Clock
from pipelines.digest import digest_of
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.remote_failures import Refused, advice_on, classify
from pipelines.embed.remote_settings import BatchSettings
from pipelines.embed.spent import Account, Spent
from pipelines.errors import EmbedderError, EmbedderHalted, GateRefused
from pipelines.verdict import Verdict

_LONGEST_WAIT_S = 30.0
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """``id`` is what the service knows it by; ``failed`` ones may have brought some vectors all the same."""

    id: str
    name: str
    phase: Literal["running", "done", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a job's output holds: a vector (float32[dimensions]) by the number of its text, and what was billed;
    ``reasons`` are some of what it says of other records."""

    rows: Mapping[int, Vectors]
    spent: Spent
    reasons: Sequence[str] = ()


class JobApi(Protocol):
    """Jobs of one service. ``texts`` are by number; ``folder`` lies under embed.remote.batch.uri."""

    name: str  # for messages
    key: str  # where its credentials come from, for messages
    model: str  # what is paid for: two jobs of one model and one input are the same
    rounds: Sequence[int]  # records of one file, round by round
    least_records: int
    files_fail_alone: bool  # whether one bad record costs its whole file its vectors

    def put(self, folder: str, texts: Mapping[int, str], records_per_file: int) -> None: ...

    def start(self, name: str, folder: str) -> Job:
        """Start a job, or find the one of that name. Raises Refused."""

    def find(self, prefix: str) -> list[Job]:
        """Jobs whose name begins so, oldest first. Raises Refused."""

    def look(self, job: Job) -> Job:
        """The job as it is now. Raises Refused."""

    def read(self, folder: str, job: Job, texts: Mapping[int, str]) -> Found: ...


class FileJobs:
    def __init__(self, api: JobApi, settings: BatchSettings, dimensions: int, account: Account, *, deadline_s: float,
                 clock: Clock = SYSTEM) -> None:  # fmt: skip
        self.least_texts = settings.min_records
        self._api = api
        self._settings = settings
        self._dimensions = dimensions
        self._account = account
        self._deadline_s = deadline_s
        self._clock = clock

    def embed(self, texts: Sequence[str], role: Role) -> tuple[Vectors, list[int]]:
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        left = dict(enumerate(texts))
        for number, records_per_file in enumerate(self._api.rounds):
            if len(left) < self._api.least_records:
                break
            job, found = self._run(left, number, records_per_file)
            for at, row in found.rows.items():
                self._must_fit(row, job)
                vectors[at] = row
                del left[at]
            if len(left) == len(texts) and (number or (job.phase == "failed" and not self._api.files_fail_alone)):
                why = job.reason or "; ".join(found.reasons) or "its output holds none of the records"
                raise EmbedderHalted(f"{self._api.name}: job {job.name} brought no vector ({why}). Mend that, then run the "
                                     "same command again: it starts another job")  # fmt: skip
            if left:
                log.info("%s: job %s left %d of %d records out (%s)", self._api.name, job.name, len(left), len(texts),
                         "; ".join(found.reasons))  # fmt: skip
        return vectors, sorted(left)

    def _run(self, texts: Mapping[int, str], number: int, records_per_file: int) -> tuple[Job, Found]:
        """One round: the job of these texts that is there already, unless it brought nothing, or a new one."""
        digest = digest_of([self._api.model, number, [[at, text] for at, text in sorted(texts.items())]])[:40]
        earlier = self._try(lambda: self._api.find(f"backhaul-{digest}-"))
        if earlier:
            job, found = self._finished(earlier[-1], digest, texts)
            if found.rows:
                return job, found
        self._api.put(digest, texts, records_per_file)
        name = f"backhaul-{digest}-{len(earlier) + 1}"
        return self._finished(self._try(lambda: self._api.start(name, digest)), digest, texts)

    def _finished(self, job: Job, folder: str, texts: Mapping[int, str]) -> tuple[Job, Found]:
        until = self._clock.monotonic() + self._settings.timeout_h * 3600
        while job.phase == "running":
            if self._clock.monotonic() > until:
                raise EmbedderError(f"{self._api.name}: job {job.name} has not ended in {self._settings.timeout_h:g} hours; look "
                                    "at it there. The same command goes on waiting for it")  # fmt: skip
            self._clock.sleep(self._settings.poll_s)
            job = self._looked_at(job)
        found = self._api.read(folder, job, texts)
        self._account.add_job(job.id, found.spent)
        return job, found

    def _looked_at(self, job: Job) -> Job:
        return self._try(lambda: self._api.look(job))

    def _try(self, call: Callable[[], T]) -> T:
        """Raises EmbedderHalted for what no retry mends, and at the deadline."""
        backoff = Backoff(self._deadline_s, clock=self._clock, cap_s=_LONGEST_WAIT_S)
        while True:
            try:
                return call()
            except Refused as refused:
                failure = refused.failure
                passing = classify(failure) in (Verdict.BACK_OFF, Verdict.SHRINK)
                if not passing or not backoff.wait():
                    raise EmbedderHalted(f"{self._api.name} refused ({failure}); {advice_on(failure, self._api.key)}. Then run "
                                         "the same command again") from refused  # fmt: skip

    def _must_fit(self, row: Vectors, job: Job) -> None:
        if row.shape != (self._dimensions,):
            raise GateRefused(
                f"{self._api.name}: job {job.name} gave vectors of {row.shape[0]} dimensions, and {self._dimensions} are "
                "declared; set embed.remote.dimensions to what the model gives, then plan again"
            )
