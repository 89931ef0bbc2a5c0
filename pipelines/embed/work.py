"""Embed one partition: objects in, committed parts and a receipt out. This is the line a partition follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.behind import Behind
from pipelines.checkpoint import Checkpoint
from pipelines.document import Chunk
from pipelines.embed.ahead import ahead
from pipelines.embed.backends import open_embedder, open_tokenizer
from pipelines.embed.embedder import Vectors
from pipelines.embed.settings import EmbedSettings
from pipelines.embed.sound import embed_sound
from pipelines.embed.timing import Stopwatch, Timings
from pipelines.errors import Interrupted
from pipelines.ledger import Ledger
from pipelines.partition import Partition
from pipelines.parts import Part, encode_part, part_table, recognise_part
from pipelines.plan.listing import open_source
from pipelines.read.documents import read_documents
from pipelines.read.reader import SourceSettings
from pipelines.receipts import embed_receipts
from pipelines.rejects import Rejects
from pipelines.space import ObservedMaker, Space
from pipelines.split.documents import split_documents
from pipelines.split.methods import open_splitter
from pipelines.split.splitter import SplitSettings
from pipelines.store import StorageSettings, open_store

_PARTS_AHEAD = 1


class EmbedTask(BaseModel):
    """All that a worker needs to know; frozen and picklable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str
    storage: StorageSettings
    source: SourceSettings
    split: SplitSettings
    embed: EmbedSettings
    run_id: str
    space: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PartDone:
    """A beat: one part written, or (``resumed``) found from an earlier attempt."""

    rows: int
    tokens: int
    resumed: bool = False


class EmbedWork:
    def __init__(self, task: EmbedTask) -> None:
        began = time.monotonic()
        self.report: Callable[[Any], None] = lambda beat: None
        self.stopping: Callable[[], bool] = lambda: False
        self._task = task
        self._store = open_store(task.root, task.storage)
        self._source, _ = open_source(task.source)
        self._receipts = embed_receipts(self._store, task.run_id)
        self._space = Space(**task.space)
        self._embedder = open_embedder(task.embed, task.storage)
        self._embedder.space.must_equal(self._space, f"run {task.run_id}")
        self._tokenizer = open_tokenizer(task.embed, task.storage)
        self._splitter = open_splitter(task.split, self._tokenizer.spans)
        self._timings = Timings(self._store, task.run_id, hardware=self._embedder.maker.hardware,
                                load_s=time.monotonic() - began)  # fmt: skip

    def __call__(self, partition: Partition) -> dict[str, Any]:
        if receipt := self._receipts.find(partition.id):
            return receipt  # a retry arrived after success
        self._watch = Stopwatch()
        ledger = Ledger()
        rejects = Rejects(ledger)
        documents = read_documents(self._source, partition, self._task.source, rejects)
        chunks = split_documents(documents, self._splitter, self._task.split, self._tokenizer,
                                 self._space.max_tokens, ledger, rejects)  # fmt: skip
        checkpoint = Checkpoint(self._store, self._task.run_id, partition.id, self._receipts)
        parts: list[Part] = []
        size = self._task.embed.rows_per_part
        batches = ahead(_batched(chunks, size), _PARTS_AHEAD, is_last=lambda b: len(b) < size)
        with Behind[tuple[Part, int]]("write-part") as writing:
            for number, rows in enumerate(self._watch.waiting(batches)):
                if self.stopping():
                    self._keep(parts, writing.finish())
                    raise Interrupted(f"partition {partition.id} stopped before part {number}")
                tokens = sum(min(chunk.tokens, self._space.max_tokens) for chunk in rows)
                earlier = checkpoint.find(
                    number, partial(recognise_part, number=number, chunks=rows, space=self._space)
                )
                if earlier:
                    self._keep(parts, writing.finish())
                    parts.append(earlier)
                    self.report(PartDone(earlier.rows, tokens, resumed=True))
                    continue
                checkpoint.begin(number)
                with self._watch.computing():
                    sound, vectors = embed_sound(self._embedder, rows, ledger, rejects, self._task.embed.dtype)
                write = partial(self._write, number, sound, vectors, self._embedder.maker, checkpoint, tokens)
                self._keep(parts, writing.run(write))
            self._keep(parts, writing.finish())
        receipt = self._commit(partition, parts, checkpoint, ledger, rejects)
        self._timings.keep(partition.id, self._watch)
        return receipt

    def _write(self, number: int, rows: Sequence[Chunk], vectors: Vectors, maker: ObservedMaker, checkpoint: Checkpoint,
               tokens: int) -> tuple[Part, int]:  # fmt: skip
        """Runs behind, while the next part is embedded."""
        part, data = encode_part(number, part_table(rows, vectors), self._space, maker)
        checkpoint.write(number, data)
        return part, tokens

    def _keep(self, parts: list[Part], written: Sequence[tuple[Part, int]]) -> None:
        for part, tokens in written:
            parts.append(part)
            self._watch.part(tokens=tokens, rows=part.rows)
            self.report(PartDone(part.rows, tokens))

    def _commit(self, partition: Partition, parts: Sequence[Part], checkpoint: Checkpoint,
                ledger: Ledger, rejects: Rejects) -> dict[str, Any]:  # fmt: skip
        file = rejects.write(self._store, self._task.run_id, "embed", partition.id)
        receipt = {
            "stage": "embed",
            "partition": partition.id,
            "parts": [part.to_json() for part in parts],
            "rows": sum(part.rows for part in parts),
            "documents": ledger.total.documents,
            "rejects": {"file": file, "counts": dict(rejects.counts)},
            "ledger": ledger.to_json(),
        }
        return checkpoint.commit(receipt, [(part.number, part.sha256) for part in parts], file)


def _batched(chunks: Iterator[Chunk], size: int) -> Iterator[list[Chunk]]:
    while batch := list(islice(chunks, size)):
        yield batch
