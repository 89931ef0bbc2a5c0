"""Pinned models: whole or not there, found by their digests, the same again, and refused when they are others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import orjson
import pytest

from pipelines.embed.cards import MODEL_CARD, ModelCard
from pipelines.embed.models import resolve_model
from pipelines.errors import GateRefused, SettingsError, StoreError
from pipelines.model.pin import Pinned, pin_model
from pipelines.store import open_store
from tests.embed.model_folders import PACKAGE, changed_model
from tests.fixtures.faulty_s3 import faulty_s3
from tests.fixtures.s3 import Bucket

WEIGHTS = b"these stand for weights, which pinning only hashes"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The packaged model's files around small weights, with what a download may hold besides."""
    folder = tmp_path / "small"
    changed_model(folder, {"model.safetensors": None})
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    for name in ("pytorch_model.bin", "onnx/model_qint8.onnx", "onnx/config.json", ".cache/lock.json", "training.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not wanted")
    return folder


def pin(root: str, folder: Path, *, licence: str | None = None, bucket: Bucket | None = None) -> Pinned:
    store = open_store(root, bucket.storage if bucket else None, create=True)
    return pin_model(store, f"file://{folder}", digest=None, storage=None, licence=licence)


def resolve(reference: str, bucket: Bucket | None = None) -> object:
    return resolve_model(reference, digest=None, storage=bucket.storage if bucket else None).space


def test_a_pinned_model_has_the_space_of_the_original(tmp_path: Path, small: Path) -> None:
    pinned = pin(f"file://{tmp_path}/root", small)
    assert resolve(pinned.shelved.reference) == resolve(f"file://{small}")
    assert f"/models/{pinned.card.weights}/" in pinned.shelved.reference


def test_the_card_names_every_file_and_nothing_else_is_copied(tmp_path: Path, small: Path) -> None:
    pinned = pin(f"file://{tmp_path}/root", small)
    place = Path(pinned.shelved.reference.removeprefix("file://"))
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert found == {*pinned.card.files, MODEL_CARD}
    assert not [name for name in found if name.endswith((".bin", ".py", ".onnx")) or name.startswith((".", "onnx"))]
    assert {"model.safetensors", "tokenizer.json", "1_Pooling/config.json"} <= found


def test_pinning_again_writes_nothing(tmp_path: Path, small: Path) -> None:
    root = f"file://{tmp_path}/root"
    first, second = pin(root, small), pin(root, small)
    assert (first.shelved.written, second.shelved.written) == (True, False)
    assert first.shelved.reference == second.shelved.reference


def test_pinning_what_is_pinned_gives_the_same_in_another_root(tmp_path: Path, small: Path) -> None:
    first = pin(f"file://{tmp_path}/one", small)
    second = pin(f"file://{tmp_path}/two", Path(first.shelved.reference.removeprefix("file://")))
    assert second.card == first.card


def test_pinning_again_mends_a_damaged_file(tmp_path: Path, small: Path) -> None:
    root = f"file://{tmp_path}/root"
    reference = pin(root, small).shelved.reference
    (Path(reference.removeprefix("file://")) / "config.json").write_text("{}")
    with pytest.raises((GateRefused, SettingsError)):
        resolve(reference)
    assert pin(root, small).shelved.written
    resolve(reference)


@pytest.mark.parametrize("name", ["model.safetensors", "1_Pooling/config.json", "tokenizer.json"])
def test_a_file_that_was_altered_in_the_store_is_refused(tmp_path: Path, small: Path, name: str) -> None:
    reference = pin(f"file://{tmp_path}/root", small).shelved.reference
    file = Path(reference.removeprefix("file://")) / name
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(GateRefused, match="digest expected"):
        resolve(reference)


def test_other_files_around_the_same_weights_lie_beside_them(tmp_path: Path, small: Path) -> None:
    root = f"file://{tmp_path}/root"
    first = pin(root, small).shelved.reference
    prompts = small / "config_sentence_transformers.json"
    prompts.unlink()
    prompts.write_text(json.dumps({"prompts": {"query": "query: "}}))
    second = pin(root, small).shelved.reference
    assert first.rpartition("/")[0] == second.rpartition("/")[0]
    assert resolve(second).difference(resolve(first)) == ["query_prompt: 'query: ' here, '' there"]  # type: ignore[attr-defined]


def test_without_its_card_a_model_is_not_there_yet(tmp_path: Path, small: Path) -> None:
    reference = pin(f"file://{tmp_path}/root", small).shelved.reference
    (Path(reference.removeprefix("file://")) / MODEL_CARD).unlink()
    with pytest.raises(GateRefused, match="pin it again: `backhaul model pin CONF`"):
        resolve(reference)


def test_without_its_card_a_model_in_s3_is_not_there_yet(
    tmp_path: Path, small: Path, s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reference = pin(f"{s3_bucket.uri}/root", small, bucket=s3_bucket).shelved.reference
    open_store(reference, s3_bucket.storage).delete([MODEL_CARD])
    with pytest.raises(GateRefused, match="written last: it was never pinned, or pinning was broken off"):
        resolve(reference, s3_bucket)


def test_the_card_is_written_after_all_that_it_names(tmp_path: Path, small: Path, s3_bucket: Bucket) -> None:
    with faulty_s3(s3_bucket.endpoint) as proxy:
        through = Bucket(s3_bucket.name, proxy.endpoint)
        pin(f"{s3_bucket.uri}/root", small, bucket=through)
        written = [path.rpartition("/")[2] for method, path in proxy.seen if method == "PUT"]
    assert written[-1] == MODEL_CARD
    assert len(written) > 5
    assert written.count(MODEL_CARD) == 1


def test_a_pinned_model_in_s3_costs_one_request_per_file_and_one_for_its_card_afterwards(
    tmp_path: Path, small: Path, s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pinned = pin(f"{s3_bucket.uri}/root", small, bucket=s3_bucket)
    with faulty_s3(s3_bucket.endpoint) as proxy:
        for _ in range(3):
            resolve(pinned.shelved.reference, Bucket(s3_bucket.name, proxy.endpoint))
        asked = Counter(path.partition("/root/models/")[2].split("/", 2)[2] for _, path in proxy.seen)
    assert asked.pop(MODEL_CARD) == 1 + 3
    assert asked == Counter(pinned.card.files.keys())


def test_what_was_altered_in_s3_is_refused_before_it_is_cached(
    tmp_path: Path, small: Path, s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reference = pin(f"{s3_bucket.uri}/root", small, bucket=s3_bucket).shelved.reference
    open_store(reference, s3_bucket.storage).put("model.safetensors", b"others")
    with pytest.raises(GateRefused, match=r"model\.safetensors digest expected .* it is not the file that was pinned"):
        resolve(reference, s3_bucket)


def test_the_licence_is_that_of_the_readme_the_card_or_the_user(tmp_path: Path, small: Path) -> None:
    root = f"file://{tmp_path}/root"
    assert pin(root, small).card.licence == "apache-2.0"  # front matter of the packaged README
    assert pin(root, small, licence="MIT").card.licence == "MIT"
    package = pin_model(open_store(root), PACKAGE, digest=None, storage=None, licence=None)
    assert package.card.licence == "Apache-2.0"  # as its shipped card says


def test_a_model_of_unknown_licence_is_not_pinned(tmp_path: Path, small: Path) -> None:
    (small / "README.md").unlink()
    with pytest.raises(SettingsError, match="--licence"):
        pin(f"file://{tmp_path}/root", small)
    assert not (tmp_path / "root" / "models").exists()


def test_a_root_that_ends_with_the_process_is_refused(small: Path) -> None:
    with pytest.raises(SettingsError, match="memory://"):
        pin("memory://pins", small)


def test_a_hub_that_may_not_be_called_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="HF_HUB_OFFLINE=1 forbids calling any"):
        pin_model(open_store(f"file://{tmp_path}"), "hub:someone/model@main", digest=None, storage=None, licence=None)


def test_a_hub_reference_without_a_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="hub:<name>@<revision>"):
        pin_model(open_store(f"file://{tmp_path}"), "hub:someone/model", digest=None, storage=None, licence=None)


def test_a_damaged_card_is_named(tmp_path: Path, small: Path) -> None:
    reference = pin(f"file://{tmp_path}/root", small).shelved.reference
    card = Path(reference.removeprefix("file://")) / MODEL_CARD
    card.write_bytes(orjson.dumps({**ModelCard.model_validate_json(card.read_bytes()).model_dump(), "weights": "?"}))
    with pytest.raises(GateRefused, match="cannot be used"):
        resolve(reference)
