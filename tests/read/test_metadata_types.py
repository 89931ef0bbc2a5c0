"""Metadata fields with types: what fits, what is rejected, and what stays as it was for those without."""

from __future__ import annotations

import datetime

import pytest

from pipelines.digest import digest_of
from pipelines.read.reader import FieldsSettings
from pipelines.rejects import Reject
from tests.read.objects import Row, delimited, documents_of, json_lines, parquet, source

TYPES = {"lang": "keyword", "stars": "number", "seen": "date", "public": "boolean"}


def read(row: Row, types: object = TYPES) -> tuple[list[dict[str, object]], list[Reject]]:
    wanted = source(fields={"metadata": types})
    documents, rejects = documents_of(wanted, json_lines([{"id": "x", "text": "t", **row}]))
    return [dict(document.metadata) for document in documents], rejects


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ({"lang": "en", "stars": 3, "seen": "2024-05-17", "public": True},
         {"lang": "en", "stars": 3, "seen": "2024-05-17", "public": True}),
        ({"lang": 7, "stars": 4.5, "seen": "2024-05-17T10:00:00Z", "public": False},
         {"lang": 7, "stars": 4.5, "seen": "2024-05-17T10:00:00+00:00", "public": False}),
        ({"stars": " 12 ", "seen": "2024-05", "public": "True"}, {"stars": 12, "seen": "2024-05", "public": True}),
        ({"stars": "-1.5e3", "public": "false"}, {"stars": -1500.0, "public": False}),
        ({"stars": "", "seen": "", "public": "", "lang": None}, {}),
        ({"stars": None, "seen": None, "public": None}, {}),
    ],
)  # fmt: skip
def test_a_value_that_fits_its_type_is_kept_as_the_type_spells_it(row: Row, kept: Row) -> None:
    assert read(row) == ([kept], [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("stars", "many"), ("stars", True), ("stars", [1]), ("stars", "1,5"), ("stars", "٣"), ("stars", "0x10"),
     ("stars", "1e999"), ("stars", "9" * 5_000), ("stars", "1" * 30), ("seen", "yesterday"), ("seen", 20240517), ("seen", "2024-13-01"),
     ("public", "yes"), ("public", 1), ("public", {}), ("lang", ["en"])],
)  # fmt: skip
def test_a_value_that_does_not_is_a_reject_that_names_the_field(name: str, value: object) -> None:
    found, [reject] = read({name: value})
    assert found == []
    assert (reject.cause, reject.document_id) == ("wrong_type", "x")
    assert repr(name) in reject.reason


def test_csv_and_parquet_give_the_same_values_as_json() -> None:
    row: Row = {"id": "x", "text": "t", "lang": "en", "stars": "4.5", "seen": "2024-05-17", "public": "true"}
    typed = {**row, "stars": 4.5, "seen": datetime.date(2024, 5, 17), "public": True}
    [wanted], _ = read(row)
    for name, data in (("csv", delimited([row])), ("parquet", parquet([typed]))):
        [document], rejects = documents_of(source(name, fields={"metadata": TYPES}), data)
        assert (document.metadata, rejects) == (wanted, [])


def test_names_alone_are_keywords_and_make_the_same_run_however_they_are_written() -> None:
    listed, mapped = (FieldsSettings.model_validate({"metadata": given})
                      for given in (["lang", "n"], {"lang": "keyword", "n": "keyword"}))  # fmt: skip
    assert listed == mapped
    assert listed.metadata_types == {"lang": "keyword", "n": "keyword"}
    dumped = source(fields={"metadata": ["lang", "n"]}).model_dump(mode="json", exclude={"uri", "storage"})
    assert digest_of(dumped)[:12] == "119459469f2d"


def test_another_type_makes_another_run() -> None:
    typed = FieldsSettings.model_validate({"metadata": {"lang": "keyword", "n": "number"}})
    assert typed.model_dump(mode="json")["metadata"] == {"lang": "keyword", "n": "number"}
    assert typed.metadata_types == {"lang": "keyword", "n": "number"}
