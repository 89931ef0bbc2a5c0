"""What one document is to blame for, and what it is not."""

from __future__ import annotations

import pytest

from pipelines.errors import Interrupted, StoreError
from pipelines.poison import blame_document


class PanicException(BaseException):
    """What libraries written in Rust raise: no Exception."""


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError("too deep"), PanicException("unwrap on None")])
def test_an_error_that_no_rule_foresees_is_the_documents(error: BaseException) -> None:
    assert blame_document(error, "splitting") == f"splitting raised {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), StoreError("down"), Interrupted("stop"), OSError(24, "Too many open files"), KeyboardInterrupt(),
     RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), RuntimeError("Failed to allocate memory for requested buffer")],
)  # fmt: skip
def test_what_another_machine_would_do_better_is_raised_again(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        blame_document(error, "splitting")
    assert caught.value is error


def test_a_reason_is_the_same_on_every_attempt_and_can_be_stored() -> None:
    reasons = {blame_document(TypeError(f"no {object()} \ud800"), "reading") for _ in range(3)}
    assert reasons == {"reading raised TypeError: no <object object at 0x…> ?"}


def test_a_reason_is_short() -> None:
    assert len(blame_document(ValueError("x" * 10_000), "reading")) < 300
