"""Writes rows in bulk: every item inspected, failures retried, shrunk, refused or final, at the pace that the index takes.

Knows lines and verdicts; knows no mapping and no generation. ``index`` under a fixed id makes every repeat harmless,
so a lost answer is simply sent again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pipelines.backoff import Backoff
from pipelines.errors import TargetHalted
from pipelines.targets.opensearch_cluster import READ_S, Cluster
from pipelines.targets.opensearch_failures import (
    UNREADABLE,
    Failure,
    Refused,
    advice_on,
    classify,
    failure_of,
    is_overload,
    is_unforeseen,
    was_answered,
)
from pipelines.targets.opensearch_gate import Gate, Passage, Stopped
from pipelines.targets.opensearch_index import path_of
from pipelines.targets.opensearch_lines import JSON, Body, Form, Lines, pack
from pipelines.targets.opensearch_pace import MOST_IN_FLIGHT
from pipelines.targets.opensearch_watch import Watch
from pipelines.targets.target import DeadLetter
from pipelines.verdict import Verdict

MOST_DEAD = 1_000  # of one write, unless the settings allow more: something other than documents is wrong
_ALL_OF = 20  # lines of a body, refused for one cause, are no accident of documents
_DOUBTS = 3  # tries of a line that meets an error no rule knows, before the document is to blame
_SAY_AFTER_S = 3.0
_LONGEST_WAIT_S = 2.0  # of one body; the gate spaces out what all of them send
# For which a node waits for a shard that is away before it says so. It is a minute by itself, when the request is given
# up as well and taken for one that is too large.
_SHARD_AWAY_S = READ_S / 2
# Everything needed to inspect each item, and none of the rest: about 60 bytes an item.
_ANSWER = "errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"

log = logging.getLogger(__name__)


class BulkWriter:
    """One write of many lines into one index. ``gate`` and ``watch`` are the worker's own and outlive it; ``allowed``
    rows may be refused for good, however alike the reasons."""

    def __init__(self, cluster: Cluster, index: str, gate: Gate, watch: Watch, *, form: Form = JSON,
                 allowed: int = 0) -> None:  # fmt: skip
        self._cluster = cluster
        self._index = index
        self._gate = gate
        self._watch = watch
        away_s = min(_SHARD_AWAY_S, cluster.deadline_s)
        self._params = {"filter_path": _ANSWER, "timeout": f"{away_s * 1000:.0f}ms"}
        self._stop = threading.Event()
        self._allowed = allowed
        self._content_type = form.content_type
        self._said = False
        self._doubts: Counter[str] = Counter()  # by id
        self._dead: list[DeadLetter] = []

    def write(self, lines: Iterable[Lines]) -> int:
        """How many lines were sent; those of them that were refused are in ``dead``.

        Raises:
            TargetHalted: what no retry mends, or what did not mend before the deadline.
            TargetError: too many refusals.
        """
        sent = 0
        under_way: set[Future[None]] = set()
        with ThreadPoolExecutor(MOST_IN_FLIGHT, thread_name_prefix="bulk") as pool:
            try:
                for body in pack(lines, lambda: self._gate.body_bytes):
                    while len(under_way) >= self._gate.limit:  # bounds memory: bodies sent, and the one being built
                        under_way = _without_done(under_way)
                    self._watch.hold_back(self._stop)
                    under_way.add(pool.submit(self._deliver, body))
                    sent += len(body)
                while under_way:
                    under_way = _without_done(under_way)
            except BaseException:
                self._stop.set()
                raise
        return sent

    @property
    def dead(self) -> tuple[DeadLetter, ...]:
        return tuple(self._dead)

    def refuse(self, letter: DeadLetter) -> None:
        """Keep a dead letter. Raises TargetError when there are too many."""
        self._dead.append(letter)
        if len(self._dead) > max(MOST_DEAD, self._allowed):
            raise self._cluster.error(
                f"index {self._index} refused more than {max(MOST_DEAD, self._allowed)} rows, the last for {letter.cause}: {letter.reason}; "
                "compare the settings with the documents, then run `backhaul load CONF` again"
            )

    def _deliver(self, body: Body) -> None:
        """Send until every line was taken or refused for good, waiting between tries without holding a turn."""
        backoff = Backoff(self._cluster.deadline_s, self._stop, cap_s=_LONGEST_WAIT_S)
        waiting, tried = [body], False
        while waiting:
            body = waiting.pop()
            try:
                with self._gate.entered(self._stop) as passage:
                    if tried:
                        passage.retried()
                    again, failure = self._send(body, passage, backoff)
            except Stopped:
                return
            waiting, tried = waiting + again, True
            if failure:
                self._say(failure, backoff)
                if not backoff.wait():
                    raise self._given_up(failure, f" for {backoff.deadline_s:.0f} s")

    def _send(self, body: Body, passage: Passage, backoff: Backoff) -> tuple[list[Body], Failure | None]:
        """What is to be sent again, in as many bodies, and what is to be waited for before."""
        try:
            failures = self._once(body)
        except Refused as error:
            return self._after_refusal(body, error.failure, passage)
        if len(failures) < len(body):
            backoff.reset()
            passage.answered(len(body.data) - len(body.only(failures).data))
        if len(failures) == len(body) >= _ALL_OF:
            self._must_differ(list(failures.values()))
        return self._after_failures(body, failures, passage)

    def _once(self, body: Body) -> dict[int, Failure]:
        """The lines that failed, by number, each with its failure. Raises Refused when no item was answered."""
        answer = self._cluster.once("POST", f"{path_of(self._index)}/_bulk", body.data, params=self._params,
                                    content_type=self._content_type)  # fmt: skip
        items = [next(iter(item.values())) for item in answer.get("items", [])] if isinstance(answer, dict) else []
        # By id: where an ingest pipeline refuses a document, OpenSearch 3.5 answers for it in another place than its own.
        by_id = {item.get("_id"): item for item in items}
        if len(items) != len(body) or by_id.keys() != {id_ for id_, _, _ in body.rows}:
            raise self._cluster.refused(Failure(200, UNREADABLE, f"{len(items)} items answered of {len(body)}"))
        return {number: failure_of(item["status"], item["error"])
                for number, (id_, _, _) in enumerate(body.rows) if "error" in (item := by_id[id_])}  # fmt: skip

    def _after_refusal(self, body: Body, failure: Failure, passage: Passage) -> tuple[list[Body], Failure | None]:
        verdict = classify(failure)
        if verdict is Verdict.STOP:
            raise self._given_up(failure)
        if len(body) == 1 and (verdict is Verdict.REJECT or failure.status == 413):
            self._refuse_row(body.rows[0], failure)
            return [], None
        if verdict is Verdict.REJECT:  # one line spoils the request: halves find it, and the good ones are kept
            return body.halves(), None
        log.info("index %s: %s; trying again", self._index, failure)
        if is_overload(failure):
            passage.overloaded()
        elif not was_answered(failure):
            passage.silence()
        if verdict is Verdict.SHRINK:
            passage.too_large(len(body.data), for_good=failure.status == 413)
            return body.halves(), failure
        return [body], failure

    def _after_failures(self, body: Body, failures: dict[int, Failure],
                        passage: Passage) -> tuple[list[Body], Failure | None]:  # fmt: skip
        again: dict[int, Failure] = {}
        for number, failure in failures.items():
            verdict = classify(failure)
            if verdict is Verdict.STOP:
                raise self._given_up(failure)
            if verdict is Verdict.REJECT or self._is_to_blame(body.rows[number], failure):
                self._refuse_row(body.rows[number], failure)
            else:
                again[number] = failure
        if not again:
            return [], None
        rest, first = body.only(again), next(iter(again.values()))
        log.info("index %s: %d items: %s; trying again", self._index, len(rest), first)
        if any(map(is_overload, again.values())):
            passage.overloaded()
        if any(classify(failure) is Verdict.SHRINK for failure in again.values()):
            passage.too_large(len(rest.data), for_good=False)
            return rest.halves(), first
        return [rest], first

    def _is_to_blame(self, row: tuple[str, str, int], failure: Failure) -> bool:
        if not is_unforeseen(failure):
            return False
        self._doubts[row[0]] += 1
        return self._doubts[row[0]] >= _DOUBTS

    def _must_differ(self, failures: list[Failure]) -> None:
        """Raises TargetHalted when every line of a body was refused for good, for one cause, and so many may not be."""
        first, rejected = failures[0], {(classify(each), each.type) for each in failures}
        if rejected == {(Verdict.REJECT, first.type)} and len(self._dead) + len(failures) > self._allowed:
            raise self._cluster.halted(
                f"index {self._index} refused every one of {len(failures)} rows ({first}): its mapping and the documents do "
                f"not agree. Compare source.fields and GET {path_of(self._index)}/_mapping, mend one of them, then run "
                "`backhaul load CONF` to resume; or allow that many by index.max_dead_letters"
            )

    def _say(self, failure: Failure, backoff: Backoff) -> None:
        """Once, when it takes longer than what passes by itself usually does."""
        if backoff.failing_s > _SAY_AFTER_S and not self._said:
            self._said = True
            log.warning("OpenSearch at %s: index %s refuses or is silent (%s); %s. Trying on for up to %.0f s",
                        self._cluster.url, self._index, failure, advice_on(failure), backoff.deadline_s)  # fmt: skip

    def _refuse_row(self, row: tuple[str, str, int], failure: Failure) -> None:
        self.refuse(DeadLetter(*row, failure.type, failure.reason, failure.status))

    def _given_up(self, failure: Failure, how_long: str = "") -> TargetHalted:
        return self._cluster.halted(f"writing to index {self._index} failed{how_long} ({failure}); "
                                    f"{advice_on(failure)}. Then run `backhaul load CONF` to resume")  # fmt: skip


def _without_done(under_way: set[Future[None]]) -> set[Future[None]]:
    """Those that are still under way after at least one has ended; an error of one is raised."""
    done, others = wait(under_way, return_when=FIRST_COMPLETED)
    for each in done:
        each.result()
    return others
