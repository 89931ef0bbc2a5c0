"""What a command refuses for the user's sake: unproved and older releases, the live index, unknown runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command import backhaul_here
from tests.e2e.corpora import write_conf, write_corpus


def _conf(folder: Path, corpus: str = "papers", source: str = "source") -> Path:
    if not (folder / source).exists():
        write_corpus(folder / source, objects=2, documents=20, seed=len(source))
    return write_conf(folder / f"{corpus}.yaml", corpus=corpus, root=f"file://{folder}/root",
                      source=f"file://{folder}/{source}", engine={"workers": 0})  # fmt: skip


def _live(conf: Path) -> str | None:
    name: str | None = backhaul_here("list", conf, "--json").json["live"]
    return name


def _three(conf: Path) -> list[str]:
    """Generations of three runs, released one after the other."""
    names = []
    for tokens in (10_000, 20_000, 30_000):
        outcome = backhaul_here("run", conf, "--json", "--set", f"partition.target_tokens={tokens}")
        assert outcome.code == 0, outcome.err
        names.append(outcome.json["generation"])
    return names


@pytest.mark.parametrize("verb", ["release", "verify"])
def test_a_generation_that_was_not_loaded_is_named_with_the_command_that_makes_it(tmp_path: Path, verb: str) -> None:
    conf = _conf(tmp_path)
    assert backhaul_here("embed", conf).code == 0
    outcome = backhaul_here(verb, conf, *(["--yes"] if verb == "release" else []))
    assert outcome.code == 2
    assert f"backhaul load {conf}" in outcome.err


def test_a_generation_that_was_never_verified_is_not_released(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    for verb in ("embed", "load"):
        assert backhaul_here(verb, conf).code == 0
    outcome = backhaul_here("release", conf, "--yes", "--force")
    assert outcome.code == 3
    assert f"was never verified; run `backhaul verify {conf}` first" in outcome.err
    assert _live(conf) is None
    assert backhaul_here("verify", conf).code == 0
    assert backhaul_here("release", conf, "--yes").code == 0


def test_going_back_forth_and_around_is_refused_or_done_as_asked(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    one, two, three = _three(conf)
    older = ["--run", one.split("-")[1], "--yes"]
    refused = backhaul_here("release", conf, *older)
    assert refused.code == 3
    assert f"{one} was planned earlier than the live one, {three}" in refused.err
    assert f"backhaul release {conf} --force" in refused.err
    assert _live(conf) == three

    assert backhaul_here("rollback", conf, "--yes", "--json").json["generation"] == two
    assert backhaul_here("rollback", conf, "--yes", "--json").json["generation"] == one
    nothing = backhaul_here("rollback", conf, "--yes")
    assert nothing.code == 2
    assert "no release before" in nothing.err

    assert backhaul_here("release", conf, "--generation", two, "--yes").code == 0
    assert backhaul_here("release", conf, *older, "--force").code == 0
    assert _live(conf) == one

    live = backhaul_here("drop", conf, "--generation", one, "--yes")
    assert live.code == 2
    assert f"{one} is live" in live.err
    assert backhaul_here("drop", conf, "--generation", three, "--yes").code == 0
    gone = backhaul_here("rollback", conf, "--generation", three, "--yes")
    assert gone.code == 2
    assert f"{three} no longer exists" in gone.err


@pytest.mark.parametrize("verb", ["status", "load", "verify", "failures", "retry"])
@pytest.mark.parametrize("run", ["nope", ""])
def test_an_unknown_run_is_wrong_usage_and_the_newest_are_named(tmp_path: Path, verb: str, run: str) -> None:
    conf = _conf(tmp_path)
    known = [backhaul_here("plan", conf, "--json", "--set", f"split.method={method}").json["run_id"][:12]
             for method in ("none", "sentences")]  # fmt: skip
    outcome = backhaul_here(verb, conf, "--run", run)
    assert outcome.code == 2
    assert f"runs that begin with {run!r}" in outcome.err
    assert [name for name in known if name not in outcome.err] == []


def test_an_unknown_generation_is_wrong_usage(tmp_path: Path) -> None:
    conf = _conf(tmp_path)
    for verb in ("release", "verify", "drop"):
        outcome = backhaul_here(verb, conf, "--generation", "nope", *([] if verb == "verify" else ["--yes"]))
        assert outcome.code == 2
        assert "no generation" in outcome.err


def test_two_corpora_in_one_root_keep_out_of_each_others_way(tmp_path: Path) -> None:
    first, second = _conf(tmp_path), _conf(tmp_path, "books", "other-source")
    one, two = (backhaul_here("run", conf, "--json") for conf in (first, second))
    assert (one.code, two.code) == (0, 0), two.err
    assert (_live(first), _live(second)) == (one.json["generation"], two.json["generation"])
    assert [row["generation"] for row in backhaul_here("list", first, "--json").json["generations"]] == [_live(first)]
    stranger = backhaul_here("drop", first, "--generation", two.json["generation"], "--yes")
    assert stranger.code == 2
    assert "has no generation" in stranger.err
    for verb in ("verify", "release"):
        refused = backhaul_here(verb, first, "--generation", two.json["generation"])
        assert (verb, refused.code) == (verb, 2)
    unknown = backhaul_here("status", first, "--run", two.json["run_id"])
    assert unknown.code == 2


def test_two_corpora_of_one_source_share_what_is_embedded(tmp_path: Path) -> None:
    first, second = _conf(tmp_path), _conf(tmp_path, "books")
    one = backhaul_here("run", first, "--json").json
    two = backhaul_here("run", second, "--json").json
    assert two["run_id"] == one["run_id"]
    assert two["partitions_embedded"] == 0
    assert two["generation"] != one["generation"]
    assert (_live(first), _live(second)) == (one["generation"], two["generation"])


def test_a_run_of_which_every_record_was_rejected_within_the_limit_goes_live_empty(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.jsonl").write_bytes(b"{nothing}\n" * 3)
    outcome = backhaul_here("run", _conf(tmp_path), "--json", "--set", "limits.max_reject_share=1")
    assert outcome.code == 0, outcome.err
    assert outcome.json["rows"] == 0


def test_a_document_over_the_models_limit_is_counted_and_within_the_limit_goes_live(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    text = "word " * 20_000
    (tmp_path / "source" / "a.jsonl").write_text(f'{{"id": "a", "text": "{text}"}}\n{{"id": "b", "text": "short"}}\n')
    outcome = backhaul_here("run", _conf(tmp_path), "--json", "--set", "limits.max_truncated_share=0.99")
    assert outcome.code == 0, outcome.err
    assert outcome.json["ledger"]["truncated_chunks"] == 1
    assert list(outcome.json["ledger"]["truncated_by_source"]) == ["a.jsonl"]
