"""The command line's entry: an expected error ends as one message and its exit code, never as a traceback."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from functools import cache
from types import FrameType

import typer

from jobs.commands import app
from pipelines.errors import BackhaulError, Interrupted, SettingsError


def main() -> None:
    """Entry point of the console script."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    # An engine has its own way to stop; between engines a command just ends. The first process of a container would
    # not even do that: for it SIGTERM is ignored unless it is handled.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.exit(run_command(sys.argv[1:]))


class _Signalled(BaseException):
    """No Exception, which libraries catch and retry; no KeyboardInterrupt, of which typer makes exit code 130."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Signalled


@cache
def _command() -> typer.core.TyperGroup:
    """Made of the functions' signatures, once for all commands of a process (a notebook, the tests)."""
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    return command


def run_command(arguments: Sequence[str]) -> int:
    """The exit code of one command. Every expected error ends as one message, never as a traceback."""
    conf = shlex.quote(next((word for word in arguments[1:] if word.endswith((".yaml", ".yml"))), "CONF"))
    as_json = "--json" in arguments
    try:
        outcome = _command()(list(arguments) or ["--help"], prog_name="backhaul", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except BackhaulError as error:
        return _fail(str(error), type(error).__name__, error.exit_code, conf, as_json)
    except _Signalled:
        return _fail("interrupted; the same command resumes", "Interrupted", Interrupted.exit_code, conf, as_json)
    except typer.Abort:
        return _fail("nothing was changed", "Abort", SettingsError.exit_code, conf, as_json)
    except typer.TyperException as error:
        known = {
            *(one.name for one in app.registered_commands),
            *(one.typer_instance.info.name for one in app.registered_groups if one.typer_instance),
        }
        verb = f" {arguments[0]}" if arguments[0] in known else ""
        return _fail(
            f"{error.format_message()}\n`backhaul{verb} --help` shows how",
            "Usage",
            SettingsError.exit_code,
            conf,
            as_json,
        )


def _fail(message: str, kind: str, exit_code: int, conf: str, as_json: bool) -> int:
    shown = message.replace(" CONF", f" {conf}")
    if as_json:
        print(json.dumps({"error": kind, "message": shown, "exit_code": exit_code}))
    print(f"backhaul: {shown}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    main()
