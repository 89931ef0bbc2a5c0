from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import NotFound, SettingsError
from pipelines.plan.listing import Listing, list_source, open_source
from pipelines.read.reader import SourceSettings
from pipelines.store import open_store
from tests.fixtures.s3 import Bucket
from tests.plan.listings import listing_of


def _write(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}\n")
    return f"file://{folder}"


def _list(source: SourceSettings) -> Listing:
    store, only_key = open_source(source)
    return list_source(store, source, only_key)


def test_a_folder_lists_in_the_order_of_the_keys_bytes(tmp_path: Path) -> None:
    uri = _write(tmp_path, "b.jsonl", "a/z.jsonl", "a.jsonl", "é.jsonl", "a/b/c.jsonl")
    keys = _list(SourceSettings(uri=uri)).column("key")
    assert keys == sorted(keys, key=str.encode)
    assert len(keys) == 5


def test_include_and_exclude_choose_and_the_rest_is_counted(tmp_path: Path) -> None:
    uri = _write(tmp_path, "a/1.jsonl", "a/2.csv", "tmp/3.jsonl")
    listing = _list(SourceSettings(uri=uri, include=("**/*.jsonl",), exclude=("tmp/**",)))
    assert listing.column("key") == ["a/1.jsonl"]
    assert listing.unmatched == 2
    assert "2 of 3 objects are left out" in " ".join(listing.notes)


def test_empty_objects_are_skipped_and_counted(tmp_path: Path) -> None:
    uri = _write(tmp_path, "1.jsonl")
    (tmp_path / "2.jsonl").touch()
    listing = _list(SourceSettings(uri=uri))
    assert listing.column("key") == ["1.jsonl"]
    assert listing.notes == ("1 empty objects were skipped",)


def test_a_file_uri_may_name_one_object(tmp_path: Path) -> None:
    uri = _write(tmp_path, "one.jsonl", "two.jsonl")
    assert _list(SourceSettings(uri=f"{uri}/one.jsonl")).column("key") == ["one.jsonl"]


def test_an_s3_uri_may_name_one_object_or_a_prefix(s3_bucket: Bucket) -> None:
    store = open_store(s3_bucket.uri, s3_bucket.storage)
    for key in ("docs/one.jsonl", "docs/two.jsonl", "docsy.jsonl"):
        store.put(key, b"{}\n")

    def keys(uri: str) -> list[str]:
        return _list(SourceSettings(uri=uri, storage=s3_bucket.storage)).column("key")

    assert keys(f"{s3_bucket.uri}/docs/one.jsonl") == ["one.jsonl"]
    assert keys(f"{s3_bucket.uri}/docs") == ["one.jsonl", "two.jsonl"]
    assert keys(f"{s3_bucket.uri}/docs/") == ["one.jsonl", "two.jsonl"]
    assert keys(s3_bucket.uri) == ["docs/one.jsonl", "docs/two.jsonl", "docsy.jsonl"]


def test_a_missing_bucket_is_named(s3_bucket: Bucket) -> None:
    source = SourceSettings(uri="s3://no-such-bucket-here/docs", storage=s3_bucket.storage)
    with pytest.raises(NotFound, match="no-such-bucket-here"):
        _list(source)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        _list(SourceSettings(uri=f"file://{tmp_path}/nowhere"))


def test_an_empty_source_says_what_was_listed_and_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no objects matched: listed 0 under file://.*check source.uri") as error:
        _list(SourceSettings(uri=f"file://{tmp_path}"))
    assert error.value.exit_code == 2


def test_a_glob_that_stays_in_one_folder_is_explained_when_nothing_matched(tmp_path: Path) -> None:
    uri = _write(tmp_path, "a/1.jsonl")
    with pytest.raises(SettingsError, match=r"listed 1 under .*\*\*/\*.jsonl to cross folders"):
        _list(SourceSettings(uri=uri, include=("*.jsonl",)))


def test_a_glob_that_cannot_be_understood_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no glob"):
        _list(SourceSettings(uri=_write(tmp_path, "a"), include=("[z-a]",)))


def test_the_digest_covers_key_etag_and_size_and_not_the_order_of_listing() -> None:
    digest = listing_of({"a": 1, "b": 2}).digest
    assert listing_of({"b": 2, "a": 1}).digest == digest
    assert listing_of({"a": 1, "b": 3}).digest != digest
    assert listing_of({"a": 1, "c": 2}).digest != digest
    assert listing_of({"a": 1, "b": 2}, etags={"a": '"new"'}).digest != digest
