"""What was lost or tampered with on disk: the command names it, and the advice it gives mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_corpus, write_three_partitions


def test_a_source_of_one_object_that_is_gone_says_plan_again(tmp_path: Path) -> None:
    write_corpus(tmp_path / "source", objects=1, documents=5)
    (one,) = (tmp_path / "source").glob("*/*")
    conf = write_three_partitions(tmp_path, source=f"file://{one}", partition={"path": None, "by": []})
    assert backhaul_here("plan", conf).code == 0
    one.rename(one.with_suffix(".gone"))
    outcome = backhaul_here("run", conf)
    assert outcome.code == 1
    assert str(one) in outcome.err
    assert "source changed since planning; plan again" in outcome.err
    anew = backhaul_here("plan", conf)
    assert anew.code == 1
    assert f"{one} does not exist" in anew.err


def test_a_source_folder_that_is_gone_says_plan_again(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    (tmp_path / "source").rename(tmp_path / "moved")
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 1
    assert "source changed since planning; plan again" in outcome.err


def test_a_failure_whose_cause_was_mended_is_retried_and_the_run_goes_on(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("plan", conf).code == 0
    (one,) = (tmp_path / "source" / "faq").glob("*")
    away = tmp_path / one.name
    one.rename(away)
    assert backhaul_here("run", conf).code == 1
    failures = backhaul_here("failures", conf, "--json").json["partitions"]
    assert [(group["stage"], group["cause"], group["count"]) for group in failures] == [("embed", "SourceChanged", 1)]
    assert "faq" in failures[0]["examples"][0]["message"]
    away.rename(one)
    retried = backhaul_here("retry", conf, "--cause", "SourceChanged", "--json")
    assert retried.code == 0, retried.err
    assert retried.json["retried"] == {"embed": 1}
    assert backhaul_here("failures", conf, "--json").json["partitions"] == []
    done = backhaul_here("run", conf, "--json")
    assert (done.code, done.json["rows"], done.json["partitions_embedded"]) == (0, 180, 0)


def _one(folder: Path, pattern: str) -> Path:
    return sorted((folder / "root").glob(f"runs/*/{pattern}"))[0]


def test_a_damaged_manifest_is_named_and_once_deleted_written_again_without_embedding(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    before = backhaul_here("run", conf, "--json").digests
    manifest = _one(tmp_path, "manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows":', b'"rows":1', 1))
    for verb in ("run", "status", "load", "verify"):
        outcome = backhaul_here(verb, conf)
        assert outcome.code == 3, (verb, outcome.err)
        assert f"{manifest} is damaged" in outcome.err
        assert "Delete it" in outcome.err
    manifest.unlink()
    again = backhaul_here("run", conf, "--json")
    assert again.digests == before
    assert again.json["partitions_embedded"] == 0


@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
def test_a_damaged_part_is_named_and_the_advice_that_is_given_mends_it(tmp_path: Path, how: str) -> None:
    conf = write_three_partitions(tmp_path)
    before = backhaul_here("embed", conf, "--json").digests
    part = _one(tmp_path, "parts/*/*.parquet")
    data = part.read_bytes()
    part.unlink() if how == "gone" else part.write_bytes(data[:-9] if how == "cut" else data[:-99] + b"x" + data[-98:])
    outcome = backhaul_here("run", conf)
    assert outcome.code == (1 if how == "gone" else 3), outcome.err
    assert part.name in outcome.err
    run = part.parent.parent.parent
    advised = [f"receipts/embed/{part.parent.name}.json", "manifest.json"]
    assert [name for name in advised if f"runs/{run.name}/{name}" not in outcome.err] == []
    for name in advised:
        (run / name).unlink()
    assert backhaul_here("embed", conf, "--json").digests == before
    done = backhaul_here("run", conf, "--json")
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["plan.json", "objects.parquet"])
def test_a_damaged_plan_is_named_and_replan_mends_it(tmp_path: Path, name: str) -> None:
    conf = write_three_partitions(tmp_path)
    assert backhaul_here("embed", conf).code == 0
    damaged = _one(tmp_path, name)
    damaged.write_bytes(damaged.read_bytes()[:40])
    outcome = backhaul_here("status", conf)
    assert outcome.code == 3, outcome.err
    assert f"{damaged} is damaged" in outcome.err
    assert "--replan" in outcome.err
    damaged.unlink()
    done = backhaul_here("run", conf, "--replan", "--json")
    assert done.code == 0, done.err
    assert done.json["partitions_embedded"] == 0


def test_a_damaged_receipt_is_named_and_once_deleted_its_partition_runs_again(tmp_path: Path) -> None:
    conf = write_three_partitions(tmp_path)
    before = backhaul_here("embed", conf, "--json").digests
    _one(tmp_path, "manifest.json").unlink()
    receipt = _one(tmp_path, "receipts/embed/*.json")
    receipt.write_bytes(receipt.read_bytes()[:50])
    outcome = backhaul_here("embed", conf)
    assert outcome.code == 3, outcome.err
    assert f"{receipt} is damaged" in outcome.err
    receipt.unlink()
    assert backhaul_here("embed", conf, "--json").digests == before
