"""What commands share: their arguments and options, how they open a session, ask, and print. Knows no verb."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.errors import SettingsError

if TYPE_CHECKING:
    from jobs.session import Session

Conf = Annotated[
    Path, typer.Argument(help="run description, such as conf/demo.yaml", metavar="CONF", show_default=False)
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set engine.workers=4; repeatable")]
Index = Annotated[int | None, typer.Option("--index", help="engine batch_array outside AWS Batch: which child, from 0")]
Of = Annotated[int | None, typer.Option("--of", help="engine batch_array outside AWS Batch: how many children")]
EngineName = Annotated[str | None, typer.Option("--engine", help="same as --set engine.name=NAME")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object, and nothing else, on standard output")]
RunId = Annotated[str | None, typer.Option("--run", help="a run id or its beginning, instead of the newest run")]
GenerationName = Annotated[str | None, typer.Option("--generation", help="a generation's name, instead of the run's")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
Force = Annotated[bool, typer.Option("--force", help="release although the live run was planned later")]
Replan = Annotated[bool, typer.Option("--replan", help="list the source anew instead of resuming an open plan")]
Mode = Annotated[Literal["lexical", "vector", "hybrid"], typer.Option(help="how to search")]
Exact = Annotated[bool, typer.Option("--exact", help="score every row instead of approximate search")]


def open_session(conf: Path, sets: list[str] | None, engine: str | None, as_json: bool, *,
             index: int | None = None, of: int | None = None) -> Session:  # fmt: skip
    from jobs.no_pandas import spare_pandas
    from jobs.session import Session
    from jobs.settings import load_settings

    spare_pandas()
    given = {"engine.name": engine, "engine.batch_array.index": index, "engine.batch_array.of": of}
    overrides = [*(sets or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    return Session(load_settings(conf, overrides), quiet=as_json and not sys.stderr.isatty())


def print_result(verb: str, result: dict[str, Any], conf: Path, as_json: bool, given: Sequence[str] = ()) -> None:
    """``given`` are options that the next command needs as well."""
    from jobs.render import TEXTS

    words = shlex.join([str(conf), *given])
    print(json.dumps(_typed(result, words)) if as_json else TEXTS[verb](result).replace(" CONF", f" {words}"))


def _typed(value: Any, words: str) -> Any:  # Any: JSON
    """With CONF spelled out in every command, so that it can be typed."""
    if isinstance(value, list):
        return [_typed(one, words) for one in value]
    if isinstance(value, dict):
        return {key: one.replace(" CONF", f" {words}") if key in ("next", "message") and one else _typed(one, words)
                for key, one in value.items()}  # fmt: skip
    return value


def given_words(sets: list[str] | None, run_id: str | None) -> list[str]:
    return [*(word for text in sets or [] for word in ("--set", text)), *(["--run", run_id] if run_id else [])]


def confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} Nobody is there to answer: add --yes")
    typer.confirm(question, abort=True, err=True)
