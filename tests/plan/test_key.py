from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipelines.errors import SettingsError
from pipelines.plan.key import Key, group_by_key
from pipelines.plan.settings import PartitionSettings
from tests.plan.listings import listing_of


def _keys(names: list[str], **settings: object) -> list[Key]:
    return list(group_by_key(listing_of(dict.fromkeys(names, 1)), PartitionSettings.model_validate(settings)))


def test_without_settings_there_is_one_key() -> None:
    assert _keys(["a/b", "c=1/d"]) == [()]


def test_a_pattern_names_segments_and_reads_dates() -> None:
    found = _keys(["faq/2024-05/x", "faq/2024-06/x", "guide/2024-05/x"],
                  path="{doc_type}/{date:%Y-%m}/*", by=("doc_type", "month"))  # fmt: skip
    assert found == [
        (("doc_type", "faq"), ("month", "2024-05")),
        (("doc_type", "faq"), ("month", "2024-06")),
        (("doc_type", "guide"), ("month", "2024-05")),
    ]


def test_a_date_may_be_spread_over_segments() -> None:
    path = "{date:%Y}/{date:%m}/{date:%d}/**"
    assert _keys(["2024/5/7/a/b"], path=path, by=("year", "month", "day")) == [
        (("year", "2024"), ("month", "2024-05"), ("day", "2024-05-07"))
    ]


def test_a_field_may_share_a_segment_with_other_text() -> None:
    assert _keys(["team-red.jsonl"], path="team-{tenant}.jsonl", by=("tenant",)) == [(("tenant", "red"),)]


def test_hive_segments_need_no_pattern() -> None:
    found = _keys(["doc_type=a%20b/year=2024/month=5/x"], by=("doc_type", "month"))
    assert found == [(("doc_type", "a b"), ("month", "2024-05"))]


def test_a_hive_date_offers_its_month() -> None:
    assert _keys(["date=2024-05-17/x"], by=("month",)) == [(("month", "2024-05"),)]


def test_a_hive_null_is_left_out_of_the_key() -> None:
    assert _keys(["tenant=__HIVE_DEFAULT_PARTITION__/x"], by=("tenant",)) == [()]


def test_a_file_name_is_no_hive_segment() -> None:
    with pytest.raises(SettingsError, match="'tenant'"):
        _keys(["tenant=a"], by=("tenant",))


def test_pattern_and_hive_segments_may_be_used_together() -> None:
    found = _keys(["faq/tenant=red/x"], path="{doc_type}/**", by=("doc_type", "tenant"))
    assert found == [(("doc_type", "faq"), ("tenant", "red"))]


def test_the_modification_date_is_a_key_by_its_special_names() -> None:
    assert _keys(["x"], by=("modified_month", "modified_day")) == [
        (("modified_month", "2024-05"), ("modified_day", "2024-05-17"))
    ]


def test_a_key_known_only_from_records_is_refused_with_what_the_paths_offer() -> None:
    with pytest.raises(SettingsError, match=r"'language'.*fields of records cannot partition.*offer: doc_type"):
        _keys(["doc_type=faq/x"], by=("language",))


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'doc_type'"):
        _keys(["faq/x"], path="{doc_type}/*", by=("doctype",))


def test_objects_beside_the_pattern_are_counted_and_one_is_named() -> None:
    with pytest.raises(SettingsError, match=r"1 of 2 objects do not match partition.path .*'README.md'.*exclude"):
        _keys(["faq/x", "README.md"], path="{doc_type}/*", by=("doc_type",))


def test_a_day_that_does_not_exist_does_not_match() -> None:
    with pytest.raises(SettingsError, match="1 of 1 objects do not match"):
        _keys(["2024-02-30/x"], path="{date:%Y-%m-%d}/*", by=("day",))


def test_objects_without_the_hive_segment_are_counted_and_one_is_named() -> None:
    with pytest.raises(SettingsError, match=r"1 of 2 objects lack a folder.*'x'"):
        _keys(["tenant=a/x", "x"], by=("tenant",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "{doc_type}/*"}, r"add by: \[doc_type\]"),
        ({"path": "*/*", "by": ["doc_type"]}, "names no field"),
        ({"path": "{doc_type", "by": ["doc_type"]}, "brace"),
        ({"path": "{a b}/*", "by": ["a"]}, "no field name"),
        ({"path": "{date:%H}/*", "by": ["date"]}, "%H is not understood"),
        ({"path": "{date:%m}/*", "by": ["month"]}, "larger units"),
        ({"path": "{team:%Y}/*", "by": ["team"]}, "only date takes a format"),
        ({"by": ["year", "year"]}, "twice"),
        ({"target_token": 5}, "target_token"),
    ],
)
def test_settings_that_cannot_mean_anything_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PartitionSettings.model_validate(settings)
