"""Dependencies between the simulator's jobs, and what Batch refuses to take."""

from __future__ import annotations

import pytest

from tests.batch.jobs import SEQUENTIAL, n_to_n
from tests.batch.programs import DEADLINE_S, python
from tests.batch.simulator import BatchSimulator


def test_a_job_waits_for_all_children_of_another(batch: BatchSimulator) -> None:
    embed = batch.submit(command=python("import time; time.sleep(0.1)"), array_size=3)
    load = batch.submit(command=python(""), depends_on=[embed])
    batch.run_until(lambda: load.status not in ("PENDING", "SUBMITTED"), DEADLINE_S)
    assert embed.status == "SUCCEEDED"
    batch.run_until_done(DEADLINE_S)
    assert load.status == "SUCCEEDED"


def test_what_depends_on_a_failure_fails_without_an_attempt(batch: BatchSimulator) -> None:
    embed = batch.submit(command=python("raise SystemExit(1)"), array_size=2, attempts=10)
    load = batch.submit(command=python(""), depends_on=[embed], attempts=10)
    verify = batch.submit(command=python(""), depends_on=[load])
    batch.run_until_done(DEADLINE_S)
    assert [(job.status, job.attempts) for job in (load, verify)] == [("FAILED", []), ("FAILED", [])]
    assert load.children[0].status_reason == "Dependent Job failed"


def test_sequential_children_never_overlap(batch: BatchSimulator) -> None:
    job = batch.submit(command=python("import time; print(time.time()); time.sleep(0.05); print(time.time())"),
                       array_size=3, depends_on=[SEQUENTIAL])  # fmt: skip
    batch.run_until_done(DEADLINE_S)
    times = [float(word) for child in job.children for word in child.attempts[0].stdout.read_text().split()]
    assert times == sorted(times)


def test_n_to_n_children_wait_for_their_own_index_alone(batch: BatchSimulator) -> None:
    program = "import os, sys; sys.exit(os.environ['AWS_BATCH_JOB_ARRAY_INDEX'] == '1')"
    first = batch.submit(command=python(program), array_size=3)
    second = batch.submit(command=python(""), array_size=3, depends_on=[n_to_n(first)])
    batch.run_until_done(DEADLINE_S)
    assert [child.status for child in second.children] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"array_size": 1}, "arrays"),
        ({"attempts": 11}, "attempts"),
        ({"timeout_s": 59}, "timeouts"),
        ({"environment": {"AWS_BATCH_JOB_ARRAY_INDEX": "0"}}, "AWS_BATCH_"),
        ({"depends_on": [SEQUENTIAL]}, "SEQUENTIAL"),
        ({"command": []}, "command"),
    ],
)
def test_what_batch_refuses_is_refused(batch: BatchSimulator, wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        batch.submit(**{"command": python(""), **wrong})  # type: ignore[arg-type]


def test_arrays_of_two_sizes_cannot_go_side_by_side(batch: BatchSimulator) -> None:
    first = batch.submit(command=python(""), array_size=2)
    with pytest.raises(ValueError, match="one size"):
        batch.submit(command=python(""), array_size=3, depends_on=[n_to_n(first)])
