"""Plain text and Markdown objects."""

from __future__ import annotations

import gzip

import pytest

from pipelines.read.reader import Record
from pipelines.read.whole import markdown_title
from tests.read.objects import causes, read_bytes, source


def test_a_text_takes_its_title_from_the_file_name() -> None:
    [found] = read_bytes(source("text"), "notes/May report.txt.gz", gzip.compress(b"\xef\xbb\xbfhello"))
    assert isinstance(found, Record)
    assert found.fields == {"id": "notes/May report.txt.gz", "title": "May report", "text": "hello"}


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# One\n# Two", "One"),
        ("text\n\n# `code` & more ##\n", "`code` & more"),
        ("```\n# in code\n```\n# Out", "Out"),
        ("~~~\n```\n# in code\n~~~\n# Out", "Out"),
        ("## Second level\n", None),
        ("#hashtag\n", None),
        ("#\n", None),
        ("    # indented code\n", None),
    ],
)
def test_a_markdown_title_is_the_first_first_level_heading_outside_code(text: str, title: str | None) -> None:
    assert markdown_title(text) == title


def test_markdown_without_a_heading_takes_the_file_name() -> None:
    [found] = read_bytes(source("markdown"), "a/guide.md", b"text")
    assert isinstance(found, Record)
    assert found.fields["title"] == "guide"


def test_an_object_over_the_limit_is_rejected() -> None:
    small = source("text", max_document_bytes=1024)
    assert causes(read_bytes(small, "a.txt", b"x" * 1024)) == ["ok"]
    assert causes(read_bytes(small, "a.txt", b"x" * 1025)) == ["too_large"]


def test_an_object_that_is_not_utf8_is_rejected() -> None:
    assert causes(read_bytes(source("text"), "a.txt", "ü".encode("latin-1"))) == ["encoding"]


def test_a_truncated_object_is_rejected_whole() -> None:
    assert causes(read_bytes(source("text"), "a.txt.gz", gzip.compress(b"hello")[:-4])) == ["corrupt_gzip"]


@pytest.mark.timeout(20)
def test_a_heading_with_a_million_blanks_is_read_in_no_time() -> None:
    assert markdown_title(f"# a{' ' * 1_000_000}b") == f"a{' ' * 1_000_000}b"
