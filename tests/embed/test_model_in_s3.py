"""Models in S3: downloaded once into the user's cache, anew when they change, refused when they are others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.digest import digest_bytes
from pipelines.embed.models import Model, resolve_model
from pipelines.embed.references import locate
from pipelines.errors import GateRefused, NotFound, SettingsError
from pipelines.store import open_store
from tests.embed.model_folders import PACKAGE
from tests.fixtures.s3 import Bucket

WEIGHTS = b"these stand for weights, which resolving a model only hashes"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "backhaul" / "models"


@pytest.fixture
def bucket(s3_bucket: Bucket) -> Bucket:
    """A bucket that holds the packaged model with small weights, a pickle and a derived file."""
    folder = resolve_model(PACKAGE, digest=None, storage=None).folder
    store = open_store(s3_bucket.uri, s3_bucket.storage)
    for file in folder.rglob("*.json"):
        store.put(f"models/mini/{file.relative_to(folder)}", file.read_bytes())
    store.put("models/mini/model.safetensors", WEIGHTS)
    store.put("models/mini/pytorch_model.bin", b"a pickle")
    store.put("models/small.onnx", b"an export")
    return s3_bucket


def resolve(bucket: Bucket, digest: str | None = None) -> Model:
    return resolve_model(f"{bucket.uri}/models/mini", digest=digest, storage=bucket.storage)


def test_a_model_in_s3_has_the_space_of_its_bytes(bucket: Bucket, cache: Path) -> None:
    model = resolve(bucket, digest_bytes(WEIGHTS))
    assert model.folder.parent == cache
    assert model.space.weights == digest_bytes(WEIGHTS)
    assert (model.space.dimensions, model.space.pooling) == (384, "mean")


def test_pickles_stay_where_they_are(bucket: Bucket, cache: Path) -> None:
    assert "pytorch_model.bin" not in [path.name for path in resolve(bucket).folder.rglob("*")]


def test_it_is_downloaded_once(bucket: Bucket, cache: Path) -> None:
    first = resolve(bucket)
    mark = first.folder / "mark"
    mark.touch()
    assert resolve(bucket).folder == first.folder
    assert mark.exists()
    assert [path.name for path in cache.iterdir()] == [first.folder.name]


def test_processes_that_download_at_once_end_with_one_folder(bucket: Bucket, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = {model.folder for model in pool.map(lambda _: resolve(bucket), range(4))}
    assert list(cache.iterdir()) == list(folders)


def test_a_model_replaced_in_s3_is_downloaded_anew_and_refused(bucket: Bucket, cache: Path) -> None:
    resolve(bucket)
    open_store(bucket.uri, bucket.storage).put("models/mini/model.safetensors", b"others")
    with pytest.raises(GateRefused, match=f"expected {digest_bytes(WEIGHTS)}, found {digest_bytes(b'others')}"):
        resolve(bucket, digest_bytes(WEIGHTS))


def test_a_derived_file_in_s3_is_fetched_alone(bucket: Bucket, cache: Path) -> None:
    file = locate(f"{bucket.uri}/models/small.onnx", bucket.storage, "embed.derived")
    assert file.read_bytes() == b"an export"
    assert [path.name for path in file.parent.iterdir()] == ["small.onnx"]


def test_a_derived_file_in_s3_comes_with_its_card_and_without_its_neighbours(bucket: Bucket, cache: Path) -> None:
    store = open_store(bucket.uri, bucket.storage)
    for name in ("small.json", "small.other", "smaller.onnx"):
        store.put(f"models/{name}", b"{}")
    file = locate(f"{bucket.uri}/models/small.onnx", bucket.storage, "embed.derived")
    assert sorted(path.name for path in file.parent.iterdir()) == ["small.json", "small.onnx"]


def test_an_empty_place_is_refused(bucket: Bucket, cache: Path) -> None:
    with pytest.raises(SettingsError, match="no model files under"):
        resolve_model(f"{bucket.uri}/nothing", digest=None, storage=bucket.storage)


def test_a_missing_bucket_is_named(bucket: Bucket, cache: Path) -> None:
    with pytest.raises(NotFound, match="no-such-bucket"):
        resolve_model("s3://no-such-bucket/model", digest=None, storage=bucket.storage)
