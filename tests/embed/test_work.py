"""One partition from objects to its receipt, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jobs.session import Session
from jobs.settings import Settings
from jobs.verbs.plan import plan_corpus
from pipelines.attempts import count_attempts
from pipelines.embed.embedder import Embedder, Role, Vectors
from pipelines.embed.work import EmbedTask, EmbedWork
from pipelines.errors import Interrupted, SpaceMismatch
from pipelines.partition import Partition
from pipelines.store import open_store
from tests.e2e.corpora import write_corpus


class Spoiled:
    """An embedder whose vectors of some texts are not what they should be."""

    def __init__(self, inner: Embedder, word: str, value: float) -> None:
        self.space, self.maker = inner.space, inner.maker
        self._inner, self._word, self._value = inner, word, value

    def embed(self, texts: Sequence[str], role: Role, ids: object = None) -> Vectors:
        vectors = self._inner.embed(texts, role).copy()
        for i, text in enumerate(texts):
            if self._word in text:
                vectors[i] = self._value
        return vectors


def _task(folder: Path) -> tuple[EmbedTask, tuple[Partition, ...]]:
    if not (folder / "source").exists():
        write_corpus(folder / "source", objects=1, documents=30)
    settings = Settings.model_validate({
        "corpus": "papers", "root": f"file://{folder}/root",
        "source": {"uri": f"file://{folder}/source", "fields": {"doc_type": "kind"}},
        "split": {"method": "none", "template": "{title} {text}"},
        "embed": {"backend": "hash", "dimensions": 16, "rows_per_part": 8},
    })  # fmt: skip
    plan = plan_corpus(Session(settings, quiet=True)).plan
    task = EmbedTask(root=settings.root, storage=settings.storage, source=settings.source, split=settings.split,
                     embed=settings.embed, run_id=plan.run_id, space=plan.space.to_json())  # fmt: skip
    return task, plan.partitions


def test_a_partition_becomes_parts_and_one_receipt_and_a_second_call_does_nothing(tmp_path: Path) -> None:
    task, (partition,) = _task(tmp_path)
    receipt = EmbedWork(task)(partition)
    assert [part["rows"] for part in receipt["parts"]] == [8, 8, 8, 6]
    assert EmbedWork(task)(partition) == receipt
    assert count_attempts(open_store(task.root), task.run_id) == (4, 4)


def test_parts_of_an_earlier_attempt_are_found_and_only_the_rest_is_embedded(tmp_path: Path) -> None:
    task, (partition,) = _task(tmp_path)
    work = EmbedWork(task)
    calls = iter([False, False, True])
    work.stopping = lambda: next(calls)
    with pytest.raises(Interrupted):
        work(partition)
    EmbedWork(task)(partition)
    assert count_attempts(open_store(task.root), task.run_id) == (4, 4)


def test_a_damaged_part_of_an_earlier_attempt_is_not_accepted(tmp_path: Path) -> None:
    task, (partition,) = _task(tmp_path)
    first = EmbedWork(task)(partition)
    (tmp_path / "root" / "runs" / task.run_id / "receipts" / "embed" / f"{partition.id}.json").unlink()
    damaged = sorted((tmp_path / "root").glob("runs/*/parts/*/000001-*"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    damaged.rename(damaged.with_name(damaged.name.replace("000001-", "000001-0")))
    assert EmbedWork(task)(partition)["parts"] == first["parts"]


def test_a_bad_vector_is_a_reject_and_its_row_alone_is_left_out(tmp_path: Path) -> None:
    task, (partition,) = _task(tmp_path)
    work = EmbedWork(task)
    text = next(iter((tmp_path / "source").glob("*/*"))).read_text().split('"text":"')[4].split('"')[0]
    work._embedder = Spoiled(work._embedder, text, np.nan)
    receipt = work(partition)
    assert receipt["rows"] == 29
    assert receipt["rejects"]["counts"] == {"bad_vector": 1}
    assert receipt["ledger"]["nan_vectors"] == 1


def test_a_worker_with_another_model_than_the_plan_refuses_before_it_embeds(tmp_path: Path) -> None:
    task, _ = _task(tmp_path)
    other = task.model_copy(update={"embed": task.embed.model_copy(update={"dimensions": 8})})
    with pytest.raises(SpaceMismatch, match="dimensions"):
        EmbedWork(other)
