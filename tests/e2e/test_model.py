"""``backhaul model`` from pin to compare on a tiny model; and one Space across the Makers of its vectors."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.e2e.command import Outcome, backhaul, backhaul_here
from tests.model.tiny import tiny_model, write_readme

absent = importlib.util.find_spec("sentence_transformers") is None or importlib.util.find_spec("nncf") is None
pytestmark = [pytest.mark.torch, pytest.mark.skipif(absent, reason="the extras torch and openvino are not installed")]

TOPICS = ("Herring swim in the northern sea.", "Rates rose by half a point in spring.", "The castle was built of red stone.",
          "A parser reads dates from strings.")  # fmt: skip


@dataclass(frozen=True)
class World:
    """A corpus, a pinned tiny model, and its exported file."""

    folder: Path
    pinned: dict[str, Any]
    exported: dict[str, Any]

    def conf(self, name: str, **embed: Any) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(_description(self.folder, embed)))
        return path


def _description(folder: Path, embed: dict[str, Any]) -> dict[str, Any]:
    return {
        "corpus": "tiny",
        "root": f"file://{folder}/root",
        "source": {"uri": f"file://{folder}/docs.jsonl", "format": "jsonl", "fields": {"id": "id", "title": "title", "text": "text"}},
        "split": {"method": "none"},
        "embed": {"threads": 1, "backend": "torch", "derived": None, **embed},
        "engine": {"workers": 0},
    }  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("model")
    rows = [
        {"id": f"d{i}", "title": f"Number {i}", "text": f"{TOPICS[i % 4]} It is told in chapter {i}."}
        for i in range(40)
    ]
    (folder / "docs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    reference = tiny_model(folder / "tiny", "bert", "mean", own={"prompts": {"query": "query: "}})
    write_readme(folder / "tiny", "mit")
    unpinned = World(folder, {}, {}).conf("unpinned", model=reference)
    pinned = _done(backhaul_here("model", "pin", unpinned, "--json"))["settings"]
    embed = {key.removeprefix("embed."): value for key, value in pinned.items()}
    exported = _done(
        backhaul_here("model", "export", World(folder, {}, {}).conf("pinned", **embed), "--sample", "20", "--json")
    )
    return World(folder, embed, {key.removeprefix("embed."): value for key, value in exported["settings"].items()})


def _done(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_the_exported_file_lies_beside_the_model_with_its_card_and_agrees(world: World) -> None:
    file = Path(world.exported["derived"].removeprefix("file://"))
    card = json.loads(file.with_suffix(".json").read_text())
    assert (card["original"], card["sha256"]) == (world.pinned["digest"], file.parent.name)
    assert (card["precision"], card["pooling"], card["normalized"], card["dimensions"]) == ("fp32", "mean", True, 32)
    assert card["agreement"]["cosine"]["min"] > 0.99999
    assert card["agreement"]["compared_with"] == "encode(), fp32"


def test_an_index_made_with_torch_is_asked_with_the_exported_file_and_the_other_way_round(world: World) -> None:
    torch, onnx = world.conf("torch", **world.pinned), world.conf("onnx", **world.pinned, **world.exported)
    for made_with, asked_with in ((torch, onnx), (onnx, torch)):
        shutil.rmtree(world.folder / "root" / "lancedb", ignore_errors=True)
        shutil.rmtree(world.folder / "root" / "corpora", ignore_errors=True)
        run = ["--run", _done(backhaul_here("embed", made_with, "--json"))["run_id"]]
        for verb in ("load", "verify", "release"):  # of a manifest that the other Maker made
            _done(backhaul_here(verb, asked_with, *run, *(["--yes"] if verb == "release" else []), "--json"))
        hits = _done(backhaul_here("query", asked_with, TOPICS[0], "--mode", "vector", "-k", "3", "--json"))["hits"]
        assert len(hits) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: {"model": _with_seed(folder)}, "weights: "),
        (lambda folder: {"model": _changed(folder, "prompts", own={"prompts": {"query": "ask: "}})}, "query_prompt: 'query: ' here, 'ask: ' there"),
        (lambda folder: {"model": _changed(folder, "pooling", pooling="cls")}, "pooling: 'mean' here, 'cls' there"),
        (lambda folder: {"dimensions": 8}, "dimensions: 32 here, 8 there"),
    ],
    ids=["weights", "prompt", "pooling", "dimensions"],
)  # fmt: skip
def test_vectors_of_another_space_are_refused_field_by_field(
    world: World, change: Callable[[Path], dict[str, Any]], said: str
) -> None:
    assert _done(backhaul_here("run", world.conf("torch", **world.pinned), "--json"))
    other = {**world.pinned, **change(world.folder), "digest": None}
    refused = backhaul_here("query", world.conf("other", **other), TOPICS[0], "--mode", "vector")
    assert refused.code == 3
    assert f"\n  {said}" in refused.err
    assert refused.err.count(" here, ") == 1


def test_a_derived_file_whose_original_now_pools_otherwise_is_refused(world: World) -> None:
    other = {**world.pinned, "model": _changed(world.folder, "pooled", pooling="cls"), "digest": None, **world.exported}
    refused = backhaul_here("plan", world.conf("other", **other))
    assert refused.code == 3
    assert "pooling: 'mean' in the file, 'cls' in" in refused.err


def test_static_int8_passes_its_gate_and_is_used(world: World) -> None:
    conf = world.conf("quantize", **world.pinned)
    made = _done(
        backhaul("model", "quantize", conf, "--sample", "20", "--min-cosine-p1", "0.9", "--json")
    )  # standard output is JSON alone
    assert (made["precision"], made["method"]) == ("int8", "static")
    assert made["agreement"]["cosine"]["p1"] >= 0.9
    settings = {key.removeprefix("embed."): value for key, value in made["settings"].items()}
    compared = _done(
        backhaul_here("model", "compare", world.conf("int8", **world.pinned, **settings), "--sample", "20", "--json")
    )
    assert compared["compared"] == "onnx, int8"
    assert compared["self_made"]
    assert 0.9 <= compared["cosine"]["min"] < 1


def test_what_misses_its_gate_is_not_kept(world: World) -> None:
    derived = world.folder / "root" / "models" / world.pinned["digest"] / "derived"
    before = sorted(derived.iterdir())
    refused = backhaul_here("model", "quantize", world.conf("quantize", **world.pinned), "--method", "dynamic", "--sample", "20",
                            "--min-cosine-p1", "1")  # fmt: skip
    assert refused.code == 3
    assert re.search(r"cosine p1 is 0\.9\d+, and at least 1\.0 is asked for", refused.err)
    assert "--min-cosine-p1" in refused.err
    assert sorted(derived.iterdir()) == before


def test_compare_on_labelled_files_tells_both_sides_and_draws_them(world: World) -> None:
    labels = _labels(world.folder)
    plot = world.folder / "agreement.png"
    conf = world.conf("onnx", **world.pinned, **world.exported)
    shown = backhaul_here("model", "compare", conf, *labels, "--plot", plot)
    assert shown.code == 0, shown.err
    assert "nDCG@10" in shown.out
    assert plot.read_bytes().startswith(b"\x89PNG")
    found = _done(backhaul_here("model", "compare", conf, *labels, "--json"))
    assert (found["with"], found["compared"], found["queries"]) == ("encode(), fp32", "onnx, fp32", 4)
    assert found["ndcg@10"]["plain"] == pytest.approx(found["ndcg@10"]["fast"])
    assert found["cosine"]["min"] > 0.99999


def test_two_of_three_labelled_files_are_wrong_usage(world: World) -> None:
    refused = backhaul_here("model", "compare", world.conf("onnx", **world.pinned), *_labels(world.folder)[:4])
    assert refused.code == 2
    assert "--corpus, --queries and --qrels" in refused.err


def _without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """As if they were not installed: importlib finds no module where None stands for it."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]


def test_where_torch_is_missing_the_exported_file_is_what_others_are_compared_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, "torch", "sentence_transformers")
    conf = world.conf("onnx", **world.pinned, **world.exported)
    found = _done(backhaul_here("model", "compare", conf, "--sample", "20", "--json"))
    assert found["with"] == "fp32 ONNX file"
    assert found["cosine"]["min"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [("onnxscript", ["export"], "torch"), ("nncf", ["quantize"], "openvino"), ("onnx", ["quantize", "--method", "dynamic"], "openvino")],
)  # fmt: skip
def test_a_missing_extra_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, module: str, words: list[str], extra: str
) -> None:
    _without(monkeypatch, module)
    refused = backhaul_here("model", words[0], world.conf("pinned", **world.pinned), *words[1:])
    assert refused.code == 2
    assert f"needs {module}, which the base install leaves out; install the extra `{extra}`" in refused.err


def test_the_hash_backend_has_no_model(world: World) -> None:
    refused = backhaul_here("model", "compare", world.conf("hash", backend="hash", dimensions=16))
    assert refused.code == 2
    assert "backend hash has no model" in refused.err


def _with_seed(folder: Path) -> str:
    return tiny_model(folder / "seed", "bert", "mean", own={"prompts": {"query": "query: "}}, seed=7)


def _changed(folder: Path, name: str, *, pooling: str = "mean", own: dict[str, Any] | None = None) -> str:
    return tiny_model(folder / name, "bert", pooling, own=own or {"prompts": {"query": "query: "}})


def _labels(folder: Path) -> list[str | Path]:
    files = {
        "corpus": b"\n".join(
            orjson.dumps({"_id": f"t{i}", "title": f"T{i}", "text": text}) for i, text in enumerate(TOPICS)
        ),
        "queries": b"\n".join(orjson.dumps({"_id": f"q{i}", "text": text[:20]}) for i, text in enumerate(TOPICS)),
        "qrels": ("q\td\ts\n" + "".join(f"q{i}\tt{i}\t1\n" for i in range(4))).encode(),
    }
    words: list[str | Path] = []
    for name, data in files.items():
        (folder / f"{name}.labels").write_bytes(data)
        words += [f"--{name}", folder / f"{name}.labels"]
    return words
