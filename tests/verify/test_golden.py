"""Golden queries: read with a word on what is wrong, asked in the generation's Space, compared with what is live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from jobs.verbs.verify import verify_run
from pipelines.errors import SettingsError
from pipelines.release import release
from pipelines.store import StorageSettings
from pipelines.verify.gates import Gate
from pipelines.verify.golden import Golden, gate_of_golden, gate_of_overlap, read_golden
from pipelines.verify.record import Verification
from pipelines.verify.settings import VerifySettings
from tests.test_load import Run

STORAGE = StorageSettings()


def _file(folder: Path, *lines: Any) -> Path:
    path = folder / "golden.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
    return path


@pytest.mark.parametrize("uri", [False, True])
def test_a_file_or_a_uri_is_read_and_empty_lines_are_not(tmp_path: Path, uri: bool) -> None:
    path = _file(tmp_path, {"query": "a b", "document_ids": ["d1", 2]}, b"", {"query": "c", "document_ids": ["d3"]})
    read = read_golden(path.as_uri() if uri else str(path), STORAGE)
    assert read == [Golden("a b", frozenset({"d1", "2"})), Golden("c", frozenset({"d3"}))]


@pytest.mark.parametrize("line", [b"{", b"[]", {"query": "a"}, {"query": " ", "document_ids": ["d"]},
                                  {"query": "a", "document_ids": []}, {"query": "a", "document_ids": "d"}])  # fmt: skip
def test_a_line_that_is_no_golden_query_is_named(tmp_path: Path, line: Any) -> None:
    path = _file(tmp_path, {"query": "a", "document_ids": ["d"]}, line)
    with pytest.raises(SettingsError, match=r"verify\.golden: .*golden\.jsonl line 2"):
        read_golden(str(path), STORAGE)


@pytest.mark.parametrize("where", ["absent.jsonl", "file:///absent/golden.jsonl"])
def test_an_absent_or_empty_file_is_named(tmp_path: Path, where: str) -> None:
    with pytest.raises(SettingsError, match=r"verify\.golden: .*absent"):
        read_golden(where, STORAGE)
    with pytest.raises(SettingsError, match="holds no query"):
        read_golden(str(_file(tmp_path)), STORAGE)


def test_the_share_of_queries_that_find_an_expected_document_decides() -> None:
    golden = [Golden("one", frozenset({"a", "b"})), Golden("two", frozenset({"c"}))]
    found = [["x", "b"], ["x"]]
    assert gate_of_golden(golden, found, VerifySettings(min_golden=0.5)).passed
    refused = gate_of_golden(golden, found, VerifySettings())
    assert (refused.passed, refused.detail) == (False, "nothing expected for 'two'")


@pytest.mark.parametrize(("minimum", "passed"), [(None, True), (0.55, True), (0.56, False)])
def test_the_overlap_is_the_mean_share_in_common(minimum: float | None, passed: bool) -> None:
    gate = gate_of_overlap([["a", "b", "c"], ["d"], []], [["c", "a"], ["e"], []], "", minimum)
    assert (gate.passed, gate.found) == (passed, "0.5556 of the documents in common on 3 queries")


class TestOfARun:
    def _verify(self, run: Run) -> Verification:
        return verify_run(run.session, run.plan, run.manifest, run.load())

    def _gate(self, verification: Verification, name: str) -> Gate:
        return next(gate for gate in verification.gates if gate.name == name)

    def _texts(self, run: Run) -> list[tuple[str, str]]:
        """(document id, text) of every row."""
        scans = (run.session.target.scan(run.create().name, partition.id) for partition in run.plan.partitions)
        return [(row["document_id"], row["text"]) for pages in scans for page in pages for row in page.rows]

    @pytest.mark.parametrize("mode", ["vector", "lexical", "hybrid"])
    def test_golden_queries_are_asked_in_each_mode(self, tmp_path: Path, mode: str) -> None:
        plain = Run(tmp_path)
        plain.load()
        document, text = self._texts(plain)[40]
        good, bad = {"query": text, "document_ids": [document]}, {"query": text, "document_ids": ["nobody"]}
        path = _file(tmp_path, good, bad)
        verify = {"golden": str(path), "golden_mode": mode, "golden_k": 3}
        refused = self._verify(Run(tmp_path, verify=verify))
        assert [gate.name for gate in refused.gates if not gate.passed] == ["golden queries"]
        assert self._gate(refused, "golden queries").found.startswith("1 of 2 queries find a document")
        assert self._verify(Run(tmp_path, verify=verify | {"min_golden": 0.5})).passed

    def test_queries_of_another_space_are_not_asked(self, tmp_path: Path) -> None:
        path = _file(tmp_path, {"query": "a", "document_ids": ["d0-0"]})
        run = Run(tmp_path)
        generation = run.load()
        other = Run(tmp_path, embed={"backend": "hash", "dimensions": 8}, verify={"golden": str(path)})
        gate = self._gate(verify_run(other.session, run.plan, run.manifest, generation), "golden queries")
        assert (gate.passed, gate.found) == (False, "1 queries not asked")
        assert "dimensions" in gate.detail

    def test_without_a_live_generation_the_line_says_so_and_with_one_how_much_is_in_common(
        self, tmp_path: Path
    ) -> None:
        first = Run(tmp_path)
        found = self._verify(first)
        assert self._gate(found, "overlap with the live").found == "not compared: nothing is live"
        release(first.session.store, first.session.target, first.session.log, "papers", first.create())
        assert self._gate(self._verify(first), "overlap with the live").found == "not compared: it is live itself"
        second = Run(tmp_path, index={"m": 8}, verify={"min_overlap": 0.99})
        gate = self._gate(self._verify(second), "overlap with the live")
        assert (gate.passed, gate.found) == (True, "1.0000 of the documents in common on 50 queries")

    def test_a_live_generation_of_another_space_is_not_compared_and_named(self, tmp_path: Path) -> None:
        first = Run(tmp_path)
        self._verify(first)
        release(first.session.store, first.session.target, first.session.log, "papers", first.create())
        second = Run(tmp_path, embed={"backend": "hash", "dimensions": 8})
        gate = self._gate(self._verify(second), "overlap with the live")
        assert gate.passed
        assert "is of another Space (dimensions" in gate.found

    def test_a_search_slower_than_allowed_is_refused(self, tmp_path: Path) -> None:
        assert self._gate(self._verify(Run(tmp_path, verify={"max_p99_ms": 60_000})), "latency").passed
        gate = self._gate(self._verify(Run(tmp_path, verify={"max_p99_ms": 0.0001})), "latency")
        assert not gate.passed
        assert "of 50 searches" in gate.found
