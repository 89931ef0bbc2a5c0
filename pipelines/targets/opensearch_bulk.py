"""Writes rows in bulk: bodies bounded by bytes, every item inspected, failures retried, shrunk, refused or final.

Knows lines and verdicts; knows no mapping and no generation. ``index`` under a fixed id makes every repeat harmless,
so a lost answer is simply sent again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa

from pipelines.backoff import Backoff
from pipelines.errors import TargetError
from pipelines.parts import rows_of, vectors_of
from pipelines.targets.opensearch_cluster import Cluster
from pipelines.targets.opensearch_failures import UNREADABLE, Failure, Refused, Verdict, advice_on, classify, failure_of
from pipelines.targets.opensearch_index import path_of
from pipelines.targets.opensearch_mapping import VECTOR
from pipelines.targets.target import DeadLetter

IN_FLIGHT = 2
MAX_ROWS = 5_000
MOST_DEAD = 1_000  # of one load: beyond it something other than documents is wrong
_LEAST_BYTES = 1 << 16
# Everything needed to inspect each item, and none of the rest: about 60 bytes an item.
_ANSWER = "errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """One action with its document, as it goes over the wire."""

    id: str
    document_id: str
    data: bytes


def index_lines(table: pa.Table, refuse: Callable[[DeadLetter], None]) -> Iterator[Line]:
    """The rows of a table as ``index`` actions; orjson prints each vector from the array's own memory.

    A vector with NaN or infinity goes to ``refuse``: JSON cannot spell it.
    """
    vectors = np.ascontiguousarray(vectors_of(table))
    finite = np.isfinite(vectors).min(axis=1, initial=True)
    for i, row in enumerate(rows_of(table)):
        if not finite[i]:
            refuse(DeadLetter(row["id"], row["document_id"], "bad_vector", "the vector holds NaN or infinity"))
            continue
        row[VECTOR] = vectors[i]
        action = orjson.dumps({"index": {"_id": row["id"]}})
        yield Line(row["id"], row["document_id"],
                   b"%b\n%b\n" % (action, orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)))  # fmt: skip


def delete_lines(ids: Iterable[str]) -> Iterator[Line]:
    return (Line(each, "", orjson.dumps({"delete": {"_id": each}}) + b"\n") for each in ids)


def pack(lines: Iterable[Line], max_bytes: Callable[[], int], max_rows: int = MAX_ROWS) -> Iterator[list[Line]]:
    """Bodies of at most ``max_bytes`` (asked anew for each line) and ``max_rows``; a longer line goes alone."""
    body: list[Line] = []
    size = 0
    for line in lines:
        if body and (size + len(line.data) > max_bytes() or len(body) >= max_rows):
            yield body
            body, size = [], 0
        body.append(line)
        size += len(line.data)
    if body:
        yield body


class BulkWriter:
    """One write of many lines into one index."""

    def __init__(self, cluster: Cluster, index: str, max_bytes: int) -> None:
        self._cluster = cluster
        self._index = index
        self._max_bytes = max_bytes
        self._stop = threading.Event()
        self._dead: list[DeadLetter] = []

    def write(self, lines: Iterable[Line]) -> int:
        """How many lines were sent; those of them that were refused are in ``dead``.

        Raises:
            TargetError: what no retry mends, what did not mend before the deadline, or too many refusals.
        """
        sent = 0
        in_flight: deque[Future[None]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="bulk") as pool:
            try:
                for body in pack(lines, lambda: self._max_bytes):
                    if len(in_flight) == IN_FLIGHT:  # bounds memory: bodies sent, and the one being built
                        in_flight.popleft().result()
                    in_flight.append(pool.submit(self._deliver, body))
                    sent += len(body)
                while in_flight:
                    in_flight.popleft().result()
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
        if len(self._dead) > MOST_DEAD:
            raise self._cluster.error(
                f"index {self._index} refused more than {MOST_DEAD} rows, the last for {letter.cause}: {letter.reason}; "
                "compare the settings with the documents, then run `backhaul load CONF` again"
            )

    def _deliver(self, body: list[Line]) -> None:
        backoff = Backoff(self._cluster.deadline_s, self._stop)
        waiting = [body]
        while waiting:
            lines = waiting.pop()
            try:
                failures = self._send(lines)
            except Refused as error:
                waiting += self._after_refusal(lines, error, backoff)
            else:
                if len(failures) < len(lines):
                    backoff.reset()
                if failures:
                    waiting += self._after_failures(failures, backoff)

    def _send(self, lines: list[Line]) -> list[tuple[Line, Failure]]:
        """The lines that failed, each with its failure."""
        answer = self._cluster.once("POST", f"{path_of(self._index)}/_bulk", b"".join(line.data for line in lines),
                                    params={"filter_path": _ANSWER})  # fmt: skip
        items = [next(iter(item.values())) for item in answer.get("items", [])] if isinstance(answer, dict) else []
        if [item.get("_id") for item in items] != [line.id for line in lines]:
            raise self._cluster.refused(Failure(200, UNREADABLE, f"{len(items)} items answered of {len(lines)}"))
        return [(line, failure_of(item["status"], item["error"]))
                for line, item in zip(lines, items, strict=True) if "error" in item]  # fmt: skip

    def _after_refusal(self, lines: list[Line], error: Refused, backoff: Backoff) -> list[list[Line]]:
        """What to send after the whole request failed."""
        failure = error.failure
        verdict = classify(failure)
        if verdict is Verdict.STOP:
            raise self._given_up(failure) from error
        if len(lines) == 1 and (verdict is Verdict.REJECT or failure.status == 413):
            self._refuse_line(lines[0], failure)
            return []
        if verdict is Verdict.REJECT:  # one line spoils the request: halves find it, and the good ones are kept
            return _halves(lines)
        self._wait(failure, backoff)
        if verdict is Verdict.SHRINK:
            self._shrink(lines)
            return _halves(lines)
        return [lines]

    def _after_failures(self, failures: list[tuple[Line, Failure]], backoff: Backoff) -> list[list[Line]]:
        """What to send after some items failed."""
        again: list[Line] = []
        shrink, last = False, failures[-1][1]
        for line, failure in failures:
            verdict = classify(failure)
            if verdict is Verdict.STOP:
                raise self._given_up(failure)
            if verdict is Verdict.REJECT:
                self._refuse_line(line, failure)
                continue
            again.append(line)
            shrink, last = shrink or verdict is Verdict.SHRINK, failure
        if not again:
            return []
        self._wait(last, backoff)
        return _halves(again) if shrink else [again]

    def _refuse_line(self, line: Line, failure: Failure) -> None:
        self.refuse(DeadLetter(line.id, line.document_id, failure.type, failure.reason))

    def _shrink(self, lines: list[Line]) -> None:
        size = sum(len(line.data) for line in lines)
        self._max_bytes = max(_LEAST_BYTES, min(self._max_bytes, size // 2))
        log.info("index %s: bulk bodies are now at most %d bytes", self._index, self._max_bytes)

    def _wait(self, failure: Failure, backoff: Backoff) -> None:
        log.info("index %s: %s; trying again", self._index, failure)
        if not backoff.wait():
            raise self._given_up(failure, f" for {backoff.deadline_s:.0f} s")

    def _given_up(self, failure: Failure, how_long: str = "") -> TargetError:
        return self._cluster.error(f"writing to index {self._index} failed{how_long} ({failure}); "
                                   f"{advice_on(failure)}. Then run `backhaul load CONF` to resume")  # fmt: skip


def _halves(lines: list[Line]) -> list[list[Line]]:
    middle = len(lines) // 2
    return [half for half in (lines[:middle], lines[middle:]) if half]
