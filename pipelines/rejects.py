"""Rejects: records that did not become rows, each with its reason and position, none lost in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

import orjson

from pipelines.digest import canonical_json, digest_bytes
from pipelines.ledger import Ledger
from pipelines.store import Store

CAUSES = {
    "broken_json": "a line is not a JSON object",
    "broken_row": "a CSV row does not match its header",
    "encoding": "bytes are not UTF-8",
    "corrupt_gzip": "a compressed object ends early or is damaged",
    "corrupt_zstd": "a compressed object ends early or is damaged",
    "corrupt_parquet": "a Parquet object is truncated or damaged",
    "too_large": "a record is over source.max_document_bytes",
    "missing_field": "a record lacks the id or text field",
    "wrong_type": "a field holds another type than declared",
    "not_text": "the text field holds no text: another type, binary data or another encoding",
    "empty_text": "the text has no character",
    "blank_text": "the text is nothing but whitespace, or characters that make no token",
    "blank_chunk": "the tokenizer finds no token in the chunk",
    "bad_vector": "the embedder gave NaN, infinity or a zero vector",
    "poison_document": "reading or splitting the document raised an error that no rule foresees",
    "poison_chunk": "tokenising or embedding the chunk raised an error that no rule foresees",
}


# What takes a chunk away from a document that is counted all the same.
OF_CHUNKS = ("bad_vector", "blank_chunk", "poison_chunk")


@dataclass(frozen=True, slots=True)
class Reject:
    cause: str
    reason: str
    position: str  # "key@offset"
    document_id: str | None = None
    sample: str = ""

    @property
    def source(self) -> str:
        """The relative key."""
        return self.position.rpartition("@")[0]


@dataclass
class Rejects:
    """The rejects of one partition, each of which counts in its ledger, too; written content-addressed beside its
    receipt."""

    ledger: Ledger = field(default_factory=Ledger)
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[bytes] = field(default_factory=list)  # JSON, in the order met
    _lock: Lock = field(default_factory=Lock, repr=False)  # reading runs ahead of embedding in a thread and both reject

    def add(self, reject: Reject, doc_type: str | None) -> None:
        line = canonical_json([reject.cause, reject.reason, reject.position, reject.document_id, reject.sample])
        with self._lock:
            self.counts[reject.cause] += 1
            self.lines.append(line)
        self.ledger.reject(reject.cause, reject.source, doc_type)

    def write(self, store: Store, run_id: str, stage: str, partition_id: str) -> str | None:
        """The file's key relative to the run, or None when there are no rejects."""
        if not self.lines:
            return None
        # Sorted, because threads reject in an order of their own.
        data = b"\n".join(sorted(self.lines)) + b"\n"
        name = f"rejects/{stage}/{partition_id}-{digest_bytes(data)}.jsonl"
        store.put(f"runs/{run_id}/{name}", data)
        return name


def read_rejects(store: Store, run_id: str, name: str) -> Iterator[Reject]:
    for line in store.get(f"runs/{run_id}/{name}").splitlines():
        yield Reject(*orjson.loads(line))
