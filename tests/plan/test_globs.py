from __future__ import annotations

import pytest

from pipelines.plan.globs import matcher


@pytest.mark.parametrize(
    ("glob", "key", "expected"),
    [
        ("**", "a/b/c.jsonl", True),
        ("**/*.jsonl", "c.jsonl", True),
        ("**/*.jsonl", "a/b/c.jsonl", True),
        ("**/*.jsonl", "a/b/c.jsonl.gz", False),
        ("*.jsonl", "a/c.jsonl", False),
        ("a/**", "a/b/c", True),
        ("a/**", "ab/c", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("part-?.md", "part-1.md", True),
        ("part-?.md", "part-/.md", False),
        ("part-[0-4].md", "part-3.md", True),
        ("part-[!0-4].md", "part-3.md", False),
        ("[!a]b", "/b", False),
        ("**/*.{jsonl,jsonl.gz}", "x/c.jsonl.gz", True),
        ("{a,b}/{c,d}", "b/c", True),
        ("{a,b}/{c,d}", "c/a", False),
        ("a+b(c).txt", "a+b(c).txt", True),
    ],
)
def test_a_glob_matches_whole_keys_segment_by_segment(glob: str, key: str, expected: bool) -> None:
    assert matcher([glob], [])(key) is expected


def test_exclude_wins_over_include() -> None:
    matches = matcher(["**/*.jsonl"], ["**/tmp/**"])
    assert matches("a/b.jsonl")
    assert not matches("a/tmp/b.jsonl")
