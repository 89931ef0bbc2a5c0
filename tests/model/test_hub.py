"""A model on a hub is downloaded when its user pins it: safely stored formats alone, its commit written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.command import backhaul
from tests.embed.model_folders import changed_model
from tests.model.hub import COMMIT, Hub, running_hub


def described(folder: Path, model: str) -> Path:
    conf = folder / "pin.yaml"
    conf.write_text(yaml.safe_dump({
        "corpus": "pin", "root": f"file://{folder}/root", "source": {"uri": f"file://{folder}/", "format": "jsonl"},
        "embed": {"model": model},
    }))  # fmt: skip
    return conf


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    changed_model(folder, {"model.safetensors": None})
    (folder / "model.safetensors").write_bytes(b"these stand for weights")
    for name in ("pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", "training.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not wanted")
    return folder


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip


def test_a_model_is_downloaded_once_without_pickles_and_its_commit_is_kept(tmp_path: Path, small: Path) -> None:
    with running_hub("someone/small", small) as hub:
        pinned = backhaul(
            "model", "pin", described(tmp_path, "hub:someone/small@main"), "--json", env=environment(hub, tmp_path)
        )
        assert pinned.code == 0, pinned.err
    assert sorted(hub.asked) == sorted(set(hub.asked))
    assert "model.safetensors" in hub.asked
    assert not [name for name in hub.asked if name.endswith((".bin", ".py", ".onnx")) or name.startswith("onnx/")]
    place = Path(pinned.json["settings"]["embed.model"].removeprefix("file://"))
    card = json.loads((place / "backhaul-card.json").read_text())
    assert card["reference"] == f"hub:someone/small@{COMMIT}"
    assert card["licence"] == "apache-2.0"  # of the README, which was read and is no part of the model


def test_a_model_that_the_hub_does_not_have_is_wrong_settings(tmp_path: Path, small: Path) -> None:
    with running_hub("someone/small", small) as hub:
        refused = backhaul(
            "model", "pin", described(tmp_path, "hub:someone/other@main"), env=environment(hub, tmp_path)
        )
    assert refused.code == 2, refused.err
    assert "check name and revision" in refused.err
