"""The work itself: a planned run's partitions in one bare loop, without engine, leases or driver. Prints seconds."""

from __future__ import annotations

import sys
import time

from jobs.session import Session
from jobs.settings import load_settings
from pipelines.embed.work import EmbedTask, EmbedWork

session = Session(load_settings(sys.argv[1]), quiet=True)
s, plan = session.settings, session.plan()
work = EmbedWork(EmbedTask(root=s.root, storage=s.storage, source=s.source, split=s.split, embed=s.embed,
                           run_id=plan.run_id, space=plan.space.to_json()))  # fmt: skip
partitions = [*plan.partitions]
began = time.perf_counter()
for partition in partitions:
    work(partition)
print(time.perf_counter() - began)
