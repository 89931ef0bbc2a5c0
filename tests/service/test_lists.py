"""The list of generations is subject to the deadline as everything is."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from jobs.service.auth import Caller
from jobs.service.problems import Refusal
from jobs.service.service import Service
from jobs.service.settings import ServeSettings
from pipelines.releases import ReleaseLog
from pipelines.storage import StorageSettings
from pipelines.store import open_store
from pipelines.targets.on_lancedb import LanceTarget
from pipelines.targets.target import Generation, IndexSettings


class Hanging(LanceTarget):
    """Lists its generations when it is let."""

    let = threading.Event()

    def generations(self, corpus: str) -> list[Generation]:
        self.let.wait(30)
        return super().generations(corpus)


def test_a_list_that_hangs_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    log = ReleaseLog(open_store(f"file://{tmp_path}", StorageSettings()), "c")
    target = Hanging(IndexSettings(), f"file://{tmp_path}/index", StorageSettings(), log)
    settings = ServeSettings.model_validate({"limits": {"deadline_s": 0.2}})
    service = Service(target, log, None, settings)
    began = time.monotonic()
    with pytest.raises(Refusal, match="took too long"):
        asyncio.run(service.generations(Caller("anybody", None)))
    took = time.monotonic() - began
    target.let.set()
    assert took < 5
