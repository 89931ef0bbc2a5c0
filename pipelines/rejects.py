"""Rejects: records that did not become rows, each with its reason and position, none lost in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from pipelines.digest import canonical_json, digest_bytes
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
    "empty_text": "nothing is left to embed",
    "bad_vector": "the embedder gave NaN, infinity or a zero vector",
    "poison_document": "reading or splitting the document raised an error that no rule foresees",
    "poison_chunk": "tokenising or embedding the chunk raised an error that no rule foresees",
}


# What takes a chunk away from a document that is counted all the same.
OF_CHUNKS = ("bad_vector", "poison_chunk")


@dataclass(frozen=True, slots=True)
class Reject:
    cause: str
    reason: str
    position: str  # "key@offset"
    document_id: str | None = None
    sample: str = ""


@dataclass
class Rejects:
    """The rejects of one partition; written content-addressed beside its receipt."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[bytes] = field(default_factory=list)  # JSON, in the order met

    def add(self, reject: Reject) -> None:
        self.counts[reject.cause] += 1
        self.lines.append(
            canonical_json([reject.cause, reject.reason, reject.position, reject.document_id, reject.sample])
        )

    def write(self, store: Store, run_id: str, stage: str, partition_id: str) -> str | None:
        """The file's key relative to the run, or None when there are no rejects."""
        if not self.lines:
            return None
        # Sorted, because reading runs ahead of embedding in a thread and both reject.
        data = b"\n".join(sorted(self.lines)) + b"\n"
        name = f"rejects/{stage}/{partition_id}-{digest_bytes(data)}.jsonl"
        store.put(f"runs/{run_id}/{name}", data)
        return name


def read_rejects(store: Store, run_id: str, name: str) -> Iterator[Reject]:
    for line in store.get(f"runs/{run_id}/{name}").splitlines():
        yield Reject(*orjson.loads(line))
