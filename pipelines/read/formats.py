"""Which reader serves which ``source.format``. To add one: write its file, and a line here."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.read.columnar import Parquet
from pipelines.read.delimited import Delimited
from pipelines.read.lines import JsonLines
from pipelines.read.reader import Format, Reader, SourceSettings
from pipelines.read.whole import WholeObject, markdown_title, no_title

READERS: dict[Format, Callable[[SourceSettings], Reader]] = {
    "jsonl": JsonLines,
    "csv": lambda source: Delimited(source, ","),
    "tsv": lambda source: Delimited(source, "\t"),
    "parquet": Parquet,
    "text": lambda source: WholeObject(source, no_title),
    "markdown": lambda source: WholeObject(source, markdown_title),
}


def open_reader(source: SourceSettings) -> Reader:
    return READERS[source.format](source)
