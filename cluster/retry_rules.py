"""Which ended attempts of a Batch job are worth another: the rules as data, as JSON, and as Batch applies them.

Knows what Batch and ECS say of an attempt that ended; knows no job, no program and no account.
A pattern can only begin a text, and can hold neither brackets nor apostrophes, so a rule cannot look behind
"ref pull has been retried 5 time(s):" or "The task can't pull the image". What these rules cannot tell from a
missing image ends the job: the array's other children take its partitions over, and a person looks.
Sources: the API reference of EvaluateOnExit and the user guide's page on automated job retries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipelines.errors import Interrupted

Action = Literal["RETRY", "EXIT"]

MAX_RULES: Final = 5
MAX_ATTEMPTS: Final = 10
MAX_PATTERN: Final = 512
ATTEMPTS: Final = MAX_ATTEMPTS  # a storm needs them, and no rule spends them on a program's error

_TEXT = (re.compile(r"[A-Za-z0-9.:\s]*\*?"), "letters, digits, periods, colons and blanks")
_ALLOWED = {"onStatusReason": _TEXT, "onReason": _TEXT, "onExitCode": (re.compile(r"[0-9]*\*?"), "digits")}


@dataclass(frozen=True, slots=True)
class RetryRule:
    """``action`` is taken when every condition given matches; its case does not matter, a pattern's does.

    Raises:
        ValueError: what Batch would refuse, or what would match everything by oversight.
    """

    action: str
    on_status_reason: str | None = None
    on_reason: str | None = None
    on_exit_code: str | None = None

    def __post_init__(self) -> None:
        if self.action.upper() not in ("RETRY", "EXIT"):
            raise ValueError(f"a retry rule's action is RETRY or EXIT, not {self.action!r}")
        if not list(self.conditions()):
            raise ValueError(f"a retry rule needs a condition; RetryRule({self.action!r}, on_reason='*') always holds")
        for name, pattern in self.conditions():
            allowed, words = _ALLOWED[name]
            if not 1 <= len(pattern) <= MAX_PATTERN or not allowed.fullmatch(pattern):
                raise ValueError(
                    f"{name} {pattern!r}: Batch takes 1 to {MAX_PATTERN} {words}, and an asterisk at the end alone"
                )

    def conditions(self) -> Iterator[tuple[str, str]]:
        """The API's name and the pattern of each condition given."""
        named = {"onStatusReason": self.on_status_reason, "onReason": self.on_reason, "onExitCode": self.on_exit_code}
        return ((name, pattern) for name, pattern in named.items() if pattern is not None)


_INTERRUPTION = RetryRule("RETRY", on_exit_code=str(Interrupted.exit_code))
_ANYTHING_ELSE = RetryRule("EXIT", on_reason="*")  # without it Batch retries what no rule names

# EC2 compute environments. The start of a container is named twice, since a container that ran and failed can
# carry a Docker timeout as its reason as well.
RETRY_RULES: Final[tuple[RetryRule, ...]] = (
    RetryRule("RETRY", on_status_reason="Host EC2*"),
    _INTERRUPTION,
    RetryRule("RETRY", on_status_reason="Task failed to start*", on_reason="DockerTimeoutError*"),
    RetryRule(
        "RETRY",
        on_status_reason="Task failed to start*",
        on_reason="CannotPullImageManifestError: Error response from daemon: toomanyrequests*",
    ),
    _ANYTHING_ELSE,
)

# Fargate words the same events otherwise, and a job definition is for one platform, so it has a table of its own.
FARGATE_RETRY_RULES: Final[tuple[RetryRule, ...]] = (
    RetryRule("RETRY", on_status_reason="Your Spot Task was interrupted*"),
    _INTERRUPTION,
    RetryRule("RETRY", on_status_reason="Timeout waiting for*"),  # a network interface, ephemeral storage
    RetryRule("RETRY", on_status_reason="ContainerRuntimeTimeoutError*"),
    _ANYTHING_ELSE,
)


def retry_strategy(rules: Sequence[RetryRule] = RETRY_RULES, attempts: int = ATTEMPTS) -> dict[str, Any]:
    """``retryStrategy`` of RegisterJobDefinition and SubmitJob.

    Raises:
        ValueError: more rules or attempts than Batch takes, or no rule at the end for what the others do not name.
    """
    if not 1 <= attempts <= MAX_ATTEMPTS:
        raise ValueError(f"Batch takes 1 to {MAX_ATTEMPTS} attempts, not {attempts}")
    if not 1 <= len(rules) <= MAX_RULES:
        raise ValueError(f"Batch takes 1 to {MAX_RULES} retry rules, not {len(rules)}")
    if evaluate_on_exit(rules[-1:]) != "EXIT":
        raise ValueError("the last retry rule must exit on '*': Batch retries whatever no rule matches")
    return {
        "attempts": attempts,
        "evaluateOnExit": [{"action": rule.action.upper(), **dict(rule.conditions())} for rule in rules],
    }


def evaluate_on_exit(rules: Sequence[RetryRule], *, status_reason: str | None = None, reason: str | None = None,
                     exit_code: int | None = None) -> Action:  # fmt: skip
    """What Batch does with an attempt that failed and has attempts left: the first rule that matches decides, and
    none at all means RETRY. Batch does not ask the rules about a job that was cancelled, terminated or timed out."""
    ending = {"onStatusReason": status_reason, "onReason": reason, "onExitCode": _decimal(exit_code)}
    for rule in rules:
        if all(_matches(pattern, ending[name]) for name, pattern in rule.conditions()):
            return "EXIT" if rule.action.upper() == "EXIT" else "RETRY"
    return "RETRY"


def _matches(pattern: str, text: str | None) -> bool:
    """``*`` alone holds for an absent text, too: the documented last rule is ``onReason: "*"``, and most programs
    that fail leave no reason."""
    if pattern == "*":
        return True
    if text is None:
        return False
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _decimal(exit_code: int | None) -> str | None:
    return None if exit_code is None else str(exit_code)
