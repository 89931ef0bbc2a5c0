"""Deliver texts to an embedding service until each has its vector or is refused for good.

Knows requests, verdicts and a pace; knows no protocol and no settings. Nothing is taken from an answer that does not
answer for every text of its request.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from pipelines.backoff import Backoff
from pipelines.embed.embedder import Role, Vectors
from pipelines.embed.remote_failures import Failure, Refused, advice_on, classify, is_rate_limit, is_silence
from pipelines.embed.remote_gate import Passage, RemoteGate, Stopped
from pipelines.embed.service import Answer, Service
from pipelines.embed.spent import Account, Spent
from pipelines.errors import EmbedderHalted, GateRefused
from pipelines.verdict import Verdict

_HOPELESS = 32  # so many texts refused and none taken are no fault of theirs
_DOUBTS = 3  # tries of a request that meets errors of the service, before its texts are sent in halves
_LONGEST_WAIT_S = 2.0  # of one request; the gate spaces out what all of them send
PROBE = "A text like any other."
_AGAIN = "Then run the same command again"
_SAY_AFTER_S = 5.0
_FIRST_ANSWER_S = 20.0  # for which a service that nobody has heard of yet may be away

log = logging.getLogger(__name__)
Batch = list[int]


class Delivery:
    """One delivery of many texts; ``inputs`` are (text, tokens). ``model`` is what an answer said has made it."""

    def __init__(self, service: Service, gate: RemoteGate, account: Account, inputs: Sequence[tuple[str, int]],
                 role: Role, *, deadline_s: float, most_in_flight: int, is_first: bool = False) -> None:  # fmt: skip
        self.model: str | None = None
        self._service = service
        self._gate = gate
        self._account = account
        self._inputs = inputs
        self._role = role
        self._deadline_s = deadline_s
        self._most_in_flight = most_in_flight
        self._is_first = is_first
        self._stop = threading.Event()
        self._said = False
        self._has_taken = False
        self._refused: dict[int, str] = {}

    def into(self, vectors: Vectors, numbers: Sequence[int]) -> dict[int, str]:
        """Fill the rows ``numbers`` of float32[len(inputs), dimensions]; the reasons of those that were refused.

        Raises:
            EmbedderHalted: the service refuses everything, or nothing was answered before the deadline.
            GateRefused: vectors of another dimension.
        """
        batches = self._batches(numbers)
        with ThreadPoolExecutor(min(self._most_in_flight, max(1, len(batches))), thread_name_prefix="embed") as pool:
            futures = [pool.submit(self._deliver, batch, vectors) for batch in batches]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return self._refused

    def _batches(self, numbers: Sequence[int]) -> list[Batch]:
        size = self._service.texts_per_request
        return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]

    def _deliver(self, batch: Batch, vectors: Vectors) -> None:
        """Send until every text was taken or refused for good, waiting between tries without holding a turn."""
        backoff = Backoff(self._deadline_s, self._stop, cap_s=_LONGEST_WAIT_S)
        waiting, doubts, failing_since = [batch], 0, None
        while waiting:
            batch = waiting.pop()
            if len(batch) > self._service.texts_per_request:  # a bound that was learnt since
                waiting += _halves(batch)
                continue
            try:
                with self._gate.entered(sum(self._inputs[i][1] for i in batch), self._stop) as passage:
                    failure = self._send(batch, vectors, passage)
            except Stopped:
                return
            if failure is None:
                backoff.reset()
                doubts, failing_since = 0, None
                continue
            failing_since = failing_since or passage.sent_at
            again = self._after(failure, batch, doubts)
            waiting += again
            doubts = 0 if len(again) > 1 or is_rate_limit(failure) else doubts + 1
            if not again or classify(failure) is Verdict.REJECT or failure.status == 413:
                continue  # what is less, or others, may be taken at once
            if is_rate_limit(failure) and self._gate.answered_at > failing_since:
                backoff.reset()  # others were let through: it is a matter of turns
                failing_since = None
            self._say(failure, backoff)
            away = self._is_first and is_silence(failure) and backoff.failing_s > _FIRST_ANSWER_S
            if (away or not backoff.wait()) and not self._stop.is_set():
                waiting = waiting[: -len(again)] + self._after_deadline(failure, batch, backoff)
                backoff.reset()

    def _send(self, batch: Batch, vectors: Vectors, passage: Passage) -> Failure | None:
        try:
            answer = self._service.send([self._inputs[i][0] for i in batch], self._role)
        except Refused as refused:
            passage.met = refused.failure
            lost = int(refused.failure.status is None)
            self._account.add(Spent(requests=1, refused=1 - lost, lost=lost, tokens=refused.tokens or 0))
            return refused.failure
        self._account.add(
            Spent(requests=1, texts=len(batch), tokens=answer.tokens or 0, untold=int(answer.tokens is None))
        )
        self._must_fit(answer, batch, vectors)
        vectors[batch] = answer.vectors
        self.model = answer.model or self.model
        self._has_taken = True
        passage.met = answer.limits
        return None

    def _must_fit(self, answer: Answer, batch: Batch, vectors: Vectors) -> None:
        if answer.vectors.shape[1:] != vectors.shape[1:]:
            raise GateRefused(
                f"{self._service.name} gave vectors of {answer.vectors.shape[1]} dimensions, and {vectors.shape[1]} are "
                "declared; set embed.remote.dimensions to what it gives, or embed.remote.send_dimensions where it can give "
                "what is declared, then plan again"
            )
        assert len(answer.vectors) == len(batch)  # a Service refuses an answer that is not complete

    def _after(self, failure: Failure, batch: Batch, doubts: int) -> list[Batch]:
        """What is to be sent again, in as many requests."""
        verdict = classify(failure)
        if verdict is Verdict.STOP:
            raise self._halted(f"refused ({failure}); {advice_on(failure, self._service.key)}. {_AGAIN}")
        if len(batch) == 1 and (verdict is Verdict.REJECT or failure.status == 413):
            self._refuse(batch[0], failure)
            return []
        log.info("%s: %s; trying again", self._service.name, failure)
        halve = verdict in (Verdict.REJECT, Verdict.SHRINK) or (doubts + 1 >= _DOUBTS and not is_rate_limit(failure))
        if failure.status == 413:
            self._service.texts_per_request = min(self._service.texts_per_request, len(batch) // 2)
        return _halves(batch) if halve and len(batch) > 1 else [batch]

    def _refuse(self, number: int, failure: Failure) -> None:
        self._refused[number] = str(failure)
        if len(self._refused) >= _HOPELESS and not self._has_taken:
            raise self._halted(
                f"refused every one of {len(self._refused)} texts, the last because: {failure}. Check embed.remote "
                "(max_tokens among others) with `backhaul doctor CONF`, then run the same command again"
            )

    def _say(self, failure: Failure, backoff: Backoff) -> None:
        """Once, when it takes longer than what passes by itself usually does."""
        if backoff.failing_s > _SAY_AFTER_S and not self._said:
            self._said = True
            log.warning("%s refuses or is silent (%s); %s. Trying on for up to %.0f s", self._service.name, failure,
                        advice_on(failure, self._service.key), self._deadline_s)  # fmt: skip

    def _after_deadline(self, failure: Failure, batch: Batch, backoff: Backoff) -> list[Batch]:
        """Where the service fails at these texts and takes a harmless one: their halves, and a single one is refused
        for good. Raises EmbedderHalted where no text is to blame."""
        lasted = f"for {backoff.failing_s:.3g} s"
        if (failure.status or 0) >= 424 and not is_rate_limit(failure) and self._takes_another():
            if len(batch) > 1:
                return _halves(batch)
            self._refused[batch[0]] = f"failed alone {lasted}, while another was taken ({failure})"
            return []
        raise self._halted(f"answered nothing of use {lasted} (last: {failure}); "
                           f"{advice_on(failure, self._service.key)}. {_AGAIN}")  # fmt: skip

    def _takes_another(self) -> bool:
        try:
            answer = self._service.send([PROBE], self._role)
        except Refused:
            return False
        self._account.add(Spent(requests=1, texts=1, tokens=answer.tokens or 0, untold=int(answer.tokens is None)))
        return True

    def _halted(self, message: str) -> EmbedderHalted:
        return EmbedderHalted(f"{self._service.name} {message}")


def _halves(batch: Batch) -> list[Batch]:
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]
