"""What the Batch simulator shows of jobs, attempts and their ends. Real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.batch.jobs import Job
from tests.batch.programs import DEADLINE_S, OBEDIENT, STUBBORN, alive, python, until_up
from tests.batch.simulator import BatchSimulator


def test_children_know_their_index_their_array_and_their_attempt(batch: BatchSimulator,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "7")  # of a job around this one
    names = ("JOB_ARRAY_INDEX", "JOB_ARRAY_SIZE", "JOB_ATTEMPT", "JOB_ID")
    program = f"import os; print(*(os.environ.get('AWS_BATCH_' + n) for n in {names}), os.environ['CORPUS'])"
    array = batch.submit(command=python(program), array_size=3, environment={"CORPUS": "papers"})
    single = batch.submit(command=python(program), environment={"CORPUS": "papers"})
    batch.run_until_done(DEADLINE_S)
    said = [child.attempts[0].stdout.read_text().split() for child in array.children]
    assert said == [[str(index), "3", "1", f"{array.id}:{index}", "papers"] for index in range(3)]
    assert single.children[0].attempts[0].stdout.read_text().split() == ["None", "None", "1", single.id, "papers"]
    assert array.status == single.status == "SUCCEEDED"


def test_no_more_containers_run_than_there_are_slots(tmp_path: Path) -> None:
    with BatchSimulator(slots=2, minute_s=1.0, folder=tmp_path) as batch:
        job = batch.submit(command=python("import time; time.sleep(0.1)"), array_size=6)
        most: list[int] = []
        batch.run_until(lambda: most.append(len(batch.running)) or job.ended, DEADLINE_S)  # type: ignore[func-returns-value]
    assert max(most) == 2
    assert job.status == "SUCCEEDED"


def test_a_child_passes_through_every_status_in_order(batch: BatchSimulator) -> None:
    first = batch.submit(command=python(""))
    job = batch.submit(command=python(""), depends_on=[first])
    seen = [job.status]

    def watch() -> bool:
        if job.status != seen[-1]:
            seen.append(job.status)
        return job.ended

    batch.run_until(watch, DEADLINE_S)
    assert seen == ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]


def test_output_is_kept_by_attempt(batch: BatchSimulator) -> None:
    program = "import os, sys; n = os.environ['AWS_BATCH_JOB_ATTEMPT']; print('out', n); sys.stderr.write('err ' + n); sys.exit(75)"  # fmt: skip
    job = batch.submit(command=python(program), attempts=2)
    batch.run_until_done(DEADLINE_S)
    assert [attempt.stdout.read_text() for attempt in job.attempts] == ["out 1\n", "out 2\n"]
    assert [attempt.stderr.read_text() for attempt in job.attempts] == ["err 1", "err 2"]


def test_an_interruption_is_retried_until_the_attempts_are_spent(batch: BatchSimulator) -> None:
    job = batch.submit(command=python("import sys; sys.exit(75)"), attempts=3)
    batch.run_until_done(DEADLINE_S)
    assert [attempt.exit_code for attempt in job.attempts] == [75, 75, 75]
    assert job.status == "FAILED"


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "raise SystemExit(3)", "import os; os.abort()"])
def test_a_program_error_has_one_attempt(batch: BatchSimulator, program: str) -> None:
    job = batch.submit(command=python(program), attempts=10)
    batch.run_until_done(DEADLINE_S)
    (attempt,) = job.attempts
    assert attempt.exit_code in (1, 3, 128 + signal.SIGABRT)
    assert (job.status, attempt.status_reason) == ("FAILED", "Essential container in task exited")


def test_a_command_that_is_not_there_does_not_start(batch: BatchSimulator) -> None:
    job = batch.submit(command=["no-such-program"], attempts=10)
    batch.run_until_done(DEADLINE_S)
    (attempt,) = job.attempts
    assert (attempt.status_reason, attempt.exit_code, attempt.started_at) == ("Task failed to start", None, None)
    assert attempt.reason is not None and attempt.reason.startswith("CannotStartContainerError")  # noqa: PT018


def test_a_start_that_docker_was_too_slow_for_is_retried(batch: BatchSimulator) -> None:
    batch.fail_starts("DockerTimeoutError: Could not transition to created; timed out after waiting 4m0s")
    job = batch.submit(command=python(""), attempts=10)
    batch.run_until_done(DEADLINE_S)
    assert [attempt.status_reason for attempt in job.attempts] == ["Task failed to start", "Essential container in task exited"]  # fmt: skip
    assert job.status == "SUCCEEDED"


def test_one_failed_child_fails_its_array_after_the_others_ended(batch: BatchSimulator, tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "if os.environ['AWS_BATCH_JOB_ARRAY_INDEX'] == '1': sys.exit(1)\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.01)"
    )
    job = batch.submit(command=python(program), array_size=3, environment={"GO": str(tmp_path / "go")}, attempts=10)
    batch.run_until(lambda: job.children[1].status == "FAILED", DEADLINE_S)
    assert not job.ended
    (tmp_path / "go").touch()
    batch.run_until_done(DEADLINE_S)
    assert [child.status for child in job.children] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert job.status == "FAILED"


def test_a_timeout_is_a_sigterm_and_no_rule_retries_it(tmp_path: Path) -> None:
    with BatchSimulator(slots=1, minute_s=2.0, folder=tmp_path) as batch:
        job = batch.submit(command=python(OBEDIENT), attempts=10, timeout_s=60)
        batch.run_until_done(DEADLINE_S)
    (attempt,) = job.attempts
    assert attempt.exit_code in (75, 143)  # SIGTERM may come before the program has set its handler
    assert (job.status, attempt.status_reason) == ("FAILED", "Job attempt duration exceeded timeout")


def test_what_ignores_sigterm_is_killed_after_the_grace(batch: BatchSimulator) -> None:
    job = batch.submit(command=python(STUBBORN), attempts=10)
    until_up(batch, job.children[0])
    batch.terminate(job)
    asked = time.monotonic()
    batch.run_until_done(DEADLINE_S)
    (attempt,) = job.attempts
    assert (attempt.status_reason, attempt.exit_code) == ("Terminated by the user", 137)
    assert time.monotonic() - asked >= 0.5  # 30 of the 60 simulated seconds of a real one


def test_termination_cancels_what_waits(tmp_path: Path) -> None:
    with BatchSimulator(slots=1, minute_s=1.0, folder=tmp_path) as batch:
        job = batch.submit(command=python(OBEDIENT), array_size=3, attempts=10)
        until_up(batch, job.children[0])
        batch.terminate(job, "wrong corpus")
        batch.run_until_done(DEADLINE_S)
    assert [len(child.attempts) for child in job.children] == [1, 0, 0]
    assert {child.status_reason for child in job.children} == {"wrong corpus"}
    assert job.status == "FAILED"


def test_jobs_and_children_are_described_as_describe_jobs_has_them(batch: BatchSimulator) -> None:
    array = batch.submit(command=python("raise SystemExit(75)"), array_size=2, attempts=2, timeout_s=60)
    single = batch.submit(command=["no-such-program"], depends_on=[array])
    other = batch.submit(command=["no-such-program"])
    batch.run_until_done(DEADLINE_S)
    described = [job.describe() for job in (array, single, other)] + [child.describe() for child in array.children]
    model = botocore.session.get_session().get_service_model("batch")
    shape: Any = model.operation_model("DescribeJobs").output_shape
    report = ParamValidator().validate({"jobs": described}, shape)
    assert not report.has_errors(), report.generate_report()
    assert {name for job in described for name in job} <= set(shape.members["jobs"].member.members)
    assert described[0]["arrayProperties"] == {"size": 2, "statusSummary": {"FAILED": 2}}
    assert [attempt["container"] for attempt in described[3]["attempts"]] == [{"exitCode": 75}, {"exitCode": 75}]
    assert described[2]["attempts"][0]["container"]["reason"].startswith("CannotStartContainerError")


def test_an_attempt_is_described_when_it_has_ended(batch: BatchSimulator) -> None:
    job = batch.submit(command=python(OBEDIENT), attempts=2)
    until_up(batch, job.children[0])
    assert (job.describe()["status"], job.describe()["attempts"]) == ("RUNNING", [])
    assert job.describe()["startedAt"] == job.attempts[0].started_at
    batch.terminate(job)
    batch.run_until_done(DEADLINE_S)
    (ended,) = job.describe()["attempts"]
    assert ended["stoppedAt"] == job.describe()["stoppedAt"] >= ended["startedAt"]


def pids(job: Job) -> list[int]:
    return [int(attempt.stdout.read_text()) for attempt in job.attempts]


@pytest.mark.parametrize("error", [False, True])
def test_closing_ends_every_process_also_after_an_error(tmp_path: Path, error: bool) -> None:
    program = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(600)"  # fmt: skip

    def use() -> Job:
        with BatchSimulator(slots=3, minute_s=1.0, folder=tmp_path) as batch:
            job = batch.submit(command=python(program), array_size=3)
            jobs.append(job)
            for child in job.children:
                until_up(batch, child)
            assert all(os.getpgid(pid) == pid for pid in pids(job))  # a group of its own
            if error:
                raise RuntimeError("a test failed")
        return job

    jobs: list[Job] = []
    if error:
        with pytest.raises(RuntimeError, match="a test failed"):
            use()
    else:
        use()
    assert [pid for pid in pids(jobs[0]) if alive(pid)] == []


def test_a_deadline_names_what_is_still_running(batch: BatchSimulator) -> None:
    batch.submit(command=python("import sys, time; sys.stderr.write('reading'); sys.stderr.flush(); time.sleep(600)"), name="embed")  # fmt: skip
    with pytest.raises(TimeoutError, match=r"(?s)embed .* RUNNING, attempt 1\n.*reading"):
        batch.run_until_done(deadline_s=1.0)
