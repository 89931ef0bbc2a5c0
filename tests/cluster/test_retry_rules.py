"""The retry rules against what Batch has really said, and against Batch's own limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from cluster.retry_rules import (
    ATTEMPTS,
    FARGATE_RETRY_RULES,
    MAX_RULES,
    RETRY_RULES,
    RetryRule,
    evaluate_on_exit,
    retry_strategy,
)

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "reasons.json").read_text())["reasons"]
TABLES = {"EC2": RETRY_RULES, "FARGATE": FARGATE_RETRY_RULES}
PROGRAM_ERRORS = [record for record in RECORDED if record["kind"] not in ("host lost", "interrupted", "transient")]
RAN = "Essential container in task exited"


def action_on(record: dict[str, Any]) -> str:
    ending = {name: record[name] for name in ("status_reason", "reason", "exit_code")}
    return evaluate_on_exit(TABLES[record["platform"]], **ending)


@pytest.mark.parametrize(
    "record", RECORDED, ids=lambda r: f"{r['kind']}: {r['status_reason']} {r['reason'] or ''}"[:90]
)
def test_what_batch_has_said_gets_the_right_action(record: dict[str, Any]) -> None:
    assert action_on(record) == record["action"]


def test_the_record_is_wide_enough_and_names_its_sources() -> None:
    assert len({(r["platform"], r["status_reason"], r["reason"], r["exit_code"]) for r in RECORDED}) == len(RECORDED)
    assert len(RECORDED) >= 40
    assert all(record["source"].startswith("https://") for record in RECORDED)
    assert {r["kind"] for r in RECORDED} >= {
        "host lost",
        "interrupted",
        "transient",
        "program",
        "image",
        "secret",
        "role",
    }


def test_the_right_action_is_retry_for_what_passes_and_exit_for_the_rest() -> None:
    """The record itself must not be bent to the rules: something passing is given up only for a stated reason."""
    for record in RECORDED:
        passing = record["kind"] in ("host lost", "interrupted", "transient")
        assert record["action"] == ("EXIT" if not passing or "note" in record else "RETRY"), record
        assert ("note" in record) <= (record["kind"] == "transient"), record


exit_codes = st.integers(1, 255).filter(lambda code: code != 75)


@given(reason=st.none() | st.text(), exit_code=exit_codes)
def test_a_program_that_ran_and_failed_is_not_retried(reason: str | None, exit_code: int) -> None:
    for table in TABLES.values():
        assert evaluate_on_exit(table, status_reason=RAN, reason=reason, exit_code=exit_code) == "EXIT"


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_program_that_failed_is_not_retried_for_a_reason_that_saves_a_start(table: tuple[RetryRule, ...]) -> None:
    for reason in {record["reason"] for record in RECORDED}:
        assert evaluate_on_exit(table, status_reason=RAN, reason=reason, exit_code=1) == "EXIT", reason


@given(endings=st.lists(st.sampled_from(RECORDED), min_size=1, max_size=2 * ATTEMPTS))
def test_no_sequence_of_endings_retries_a_program_error_more_than_once(endings: list[dict[str, Any]]) -> None:
    attempts = []
    for ending in endings[:ATTEMPTS]:
        attempts.append(ending)
        if action_on(ending) == "EXIT":
            break
    retried = [ending for ending in attempts[:-1] if ending in PROGRAM_ERRORS]
    assert retried == []


def test_an_interruption_is_retried_whatever_else_is_said() -> None:
    assert evaluate_on_exit(RETRY_RULES, status_reason=RAN, exit_code=75) == "RETRY"
    assert evaluate_on_exit(RETRY_RULES, status_reason=RAN, reason="whatever", exit_code=75) == "RETRY"
    assert evaluate_on_exit(RETRY_RULES, status_reason=RAN, exit_code=175) == "EXIT"
    assert evaluate_on_exit(RETRY_RULES, status_reason=RAN, exit_code=750) == "EXIT"


def test_every_rule_of_a_table_decides_something_recorded() -> None:
    for platform, table in TABLES.items():
        records = [record for record in RECORDED if record["platform"] == platform]
        for rule in table:
            without = tuple(other for other in table if other is not rule)
            endings = [{name: r[name] for name in ("status_reason", "reason", "exit_code")} for r in records]
            assert any(evaluate_on_exit(table, **e) != evaluate_on_exit(without, **e) for e in endings), rule


# How Batch reads rules: the API reference of EvaluateOnExit, sentence by sentence.


def test_all_conditions_of_a_rule_must_match() -> None:
    rules = (RetryRule("EXIT", on_status_reason="Task*", on_reason="Docker*", on_exit_code="1"),)
    assert evaluate_on_exit(rules, status_reason="Task failed", reason="Docker", exit_code=1) == "EXIT"
    assert evaluate_on_exit(rules, status_reason="Task failed", reason="Docker", exit_code=2) == "RETRY"
    assert evaluate_on_exit(rules, status_reason="Task failed", reason="docker", exit_code=1) == "RETRY"
    assert evaluate_on_exit(rules, status_reason="A Task", reason="Docker", exit_code=1) == "RETRY"


def test_the_first_rule_that_matches_decides() -> None:
    narrow, wide = RetryRule("EXIT", on_exit_code="12"), RetryRule("RETRY", on_exit_code="1*")
    assert evaluate_on_exit((narrow, wide), exit_code=12) == "EXIT"
    assert evaluate_on_exit((wide, narrow), exit_code=12) == "RETRY"


def test_a_pattern_is_exact_but_for_an_asterisk_at_its_end() -> None:
    exact, prefix = RetryRule("EXIT", on_exit_code="40"), RetryRule("EXIT", on_exit_code="40*")
    assert [evaluate_on_exit((exact,), exit_code=code) for code in (4, 40, 400)] == ["RETRY", "EXIT", "RETRY"]
    assert [evaluate_on_exit((prefix,), exit_code=code) for code in (4, 40, 404)] == ["RETRY", "EXIT", "EXIT"]


def test_without_a_match_a_job_is_retried() -> None:
    assert evaluate_on_exit((), status_reason=RAN, exit_code=1) == "RETRY"
    assert evaluate_on_exit((RetryRule("EXIT", on_exit_code="2"),), status_reason=RAN, exit_code=1) == "RETRY"


def test_an_asterisk_alone_holds_for_what_is_absent_and_a_prefix_does_not() -> None:
    assert evaluate_on_exit((RetryRule("EXIT", on_reason="*"),), status_reason=RAN, exit_code=1) == "EXIT"
    assert evaluate_on_exit((RetryRule("EXIT", on_exit_code="1*"),), status_reason="Host EC2") == "RETRY"


def test_an_action_has_no_case() -> None:
    assert evaluate_on_exit((RetryRule("exit", on_reason="*"),)) == "EXIT"
    assert retry_strategy([RetryRule("Exit", on_reason="*")])["evaluateOnExit"] == [{"action": "EXIT", "onReason": "*"}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "IGNORE", "on_reason": "*"},
        {"action": "RETRY"},
        {"action": "RETRY", "on_reason": ""},
        {"action": "RETRY", "on_reason": "Host*EC2"},
        {"action": "RETRY", "on_reason": "*terminated."},
        {"action": "RETRY", "on_reason": "API error (500)*"},
        {"action": "RETRY", "on_reason": "can't pull"},
        {"action": "RETRY", "on_status_reason": "x" * 513},
        {"action": "RETRY", "on_exit_code": "-9"},
        {"action": "RETRY", "on_exit_code": "1?"},
    ],
)
def test_what_batch_would_refuse_is_no_rule(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"retry rule|Batch takes"):
        RetryRule(**wrong)
    RetryRule("RETRY", on_status_reason="x" * 511 + "*")


# The rendered JSON.


@pytest.mark.parametrize("platform", TABLES)
def test_the_rendered_strategy_is_one_that_batch_takes(platform: str) -> None:
    strategy = retry_strategy(TABLES[platform])
    operation = botocore.session.get_session().get_service_model("batch").operation_model("RegisterJobDefinition")
    shape = operation.input_shape.members["retryStrategy"]
    report = ParamValidator().validate(strategy, shape)
    assert not report.has_errors(), report.generate_report()
    rule = shape.members["evaluateOnExit"].member
    assert {entry["action"] for entry in strategy["evaluateOnExit"]} <= set(rule.members["action"].enum)
    assert len(strategy["evaluateOnExit"]) <= MAX_RULES == 5  # not in the model; the API reference has it
    assert 1 <= strategy["attempts"] <= 10
    assert json.loads(json.dumps(strategy)) == strategy
    assert strategy["evaluateOnExit"][-1] == {"action": "EXIT", "onReason": "*"}


def test_a_strategy_beyond_the_limits_is_refused() -> None:
    end = RetryRule("EXIT", on_reason="*")
    with pytest.raises(ValueError, match="attempts"):
        retry_strategy(attempts=11)
    with pytest.raises(ValueError, match="retry rules"):
        retry_strategy([*(RetryRule("RETRY", on_exit_code=str(code)) for code in range(5)), end])
    with pytest.raises(ValueError, match="last retry rule"):
        retry_strategy(RETRY_RULES[:-1])
    with pytest.raises(ValueError, match="last retry rule"):
        retry_strategy([RetryRule("RETRY", on_reason="*")])
