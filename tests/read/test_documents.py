"""Records into documents."""

from __future__ import annotations

import datetime
import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.document import Document, Position
from pipelines.read.documents import _document_or_reject
from pipelines.read.reader import FieldsSettings, Record
from pipelines.rejects import Reject, Rejects
from tests.read.objects import Row, documents_of, json_lines, source

ALL = source(fields={"uri": "url", "doc_type": "kind", "date": "when", "tenant": "team", "metadata": ["lang", "n"]})


def one(row: Row, settings: object = None, key: tuple[tuple[str, str], ...] = ()) -> Document:
    [document], rejects = documents_of(source(fields=settings or {}), json_lines([row]), key=key)
    assert not rejects
    return document


def rejected(row: Row, settings: object = None, key: tuple[tuple[str, str], ...] = ()) -> Reject:
    documents, [reject] = documents_of(source(fields=settings or {}), json_lines([row]), key=key)
    assert not documents
    return reject


def test_declared_fields_fill_the_document() -> None:
    row = {"id": "x", "title": "T", "text": "t", "url": "/x", "kind": "faq", "when": "2024-05-17", "team": "red",
           "lang": "en", "n": 3, "other": 1}  # fmt: skip
    [document], _ = documents_of(ALL, json_lines([row]), name="a.jsonl")
    assert (document.id, document.title, document.text, document.uri) == ("x", "T", "t", "/x")
    assert (document.doc_type, document.date, document.tenant) == ("faq", "2024-05-17", "red")
    assert document.metadata == {"lang": "en", "n": 3}
    assert str(document.position) == "a.jsonl@0"


def test_the_uri_is_the_relative_key_unless_a_field_says_more() -> None:
    assert one({"id": "x", "text": "t"}).uri == "a"
    assert one({"id": "x", "text": "t", "url": None}, {"uri": "url"}).uri == "a"


def test_a_whole_number_is_an_id() -> None:
    assert one({"id": 7, "text": "t"}).id == "7"


def test_without_a_field_of_ids_the_place_is_the_id() -> None:
    documents, _ = documents_of(source(fields={"id": None}), json_lines([{"text": "a"}, {"text": "b"}]), name="d@/x")
    assert [document.id for document in documents] == ["d@/x#0", "d@/x#13"]


def test_what_the_path_says_fills_what_the_record_does_not() -> None:
    key = (("doc_type", "faq"), ("date", "2024-05-17"), ("tenant", "red"))
    document = one({"id": 1, "text": "t", "kind": "", "when": None}, {"doc_type": "kind", "date": "when"}, key)
    assert (document.doc_type, document.date, document.tenant) == ("faq", "2024-05-17", "red")
    assert one({"id": 1, "text": "t", "kind": "howto"}, {"doc_type": "kind"}, key).doc_type == "howto"


def test_a_day_of_the_path_is_a_date() -> None:
    assert one({"id": 1, "text": "t"}, key=(("month", "2024-05"), ("day", "2024-05-17"))).date == "2024-05-17"


@pytest.mark.parametrize("name", ["id", "text"])
def test_a_missing_field_names_itself_and_the_fields_that_exist(name: str) -> None:
    row = {"id": "x", "text": "t", "b": 1, "a": 2}
    del row[name]
    reject = rejected(row)
    assert reject.cause == "missing_field"
    assert reject.reason == f"there is no field {name!r}; the record has {', '.join(sorted(row))}"
    assert reject.document_id == (None if name == "id" else "x")


@pytest.mark.parametrize(("value", "what"), [(None, "null"), ("", "empty")])
def test_a_null_or_empty_id_is_missing(value: object, what: str) -> None:
    assert rejected({"id": value, "text": "t"}).reason == f"field 'id' is {what}"


def test_a_declared_tenant_that_is_missing_rejects_the_document() -> None:
    assert rejected({"id": 1, "text": "t"}, {"tenant": "team"}).cause == "missing_field"
    assert one({"id": 1, "text": "t"}, {"tenant": "team"}, (("tenant", "red"),)).tenant == "red"


@pytest.mark.parametrize("value", [" \n\t ", "\u00a0"])
def test_a_text_of_blanks_is_rejected_as_blank_and_no_text_at_all_as_empty(value: str) -> None:
    assert rejected({"id": 1, "text": value}).cause == "blank_text"
    assert rejected({"id": 1, "text": ""}).cause == "empty_text"


@pytest.mark.parametrize("value", ["UTF-16 read as UTF-8".encode("utf-16-le").decode(), "\x00\x01\x02", "caf\ufffd"])
def test_binary_data_and_other_encodings_are_no_text(value: str) -> None:
    reject = rejected({"id": 1, "text": value})
    assert reject.cause == "not_text"
    assert "NUL or replacement characters" in reject.reason


def test_a_long_text_with_a_stray_character_is_a_text() -> None:
    assert one({"id": 1, "text": "a page of a PDF, read well but for one letter \x00"}).text.endswith("\x00")


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", 1.5), ("id", True), ("id", ["a"]), ("title", 3), ("kind", 1.5),
     ("when", 20240517), ("when", "yesterday"), ("when", "2024-13-01"), ("lang", ["a"]), ("lang", {}), ("team", [])],
)  # fmt: skip
def test_another_type_than_declared_is_rejected_with_the_field(name: str, value: object) -> None:
    row = {"id": "x", "text": "t", "team": "red", name: value}
    documents, [reject] = documents_of(ALL, json_lines([row]))
    assert not documents
    assert reject.cause == "wrong_type"
    assert f"field {name!r} is " in reject.reason


@pytest.mark.parametrize(
    ("value", "date"),
    [("2024-05-17", "2024-05-17"), ("20240517", "2024-05-17"), ("2024-05", "2024-05"), ("2024", "2024"),
     ("2024-05-17 10:11:12", "2024-05-17T10:11:12"), ("2024-05-17T10:11:12Z", "2024-05-17T10:11:12+00:00"),
     ("", None), (None, None)],
)  # fmt: skip
def test_dates_come_out_in_iso_form(value: str | None, date: str | None) -> None:
    assert one({"id": 1, "text": "t", "when": value}, {"date": "when"}).date == date


def test_typed_values_of_parquet_become_iso_texts() -> None:
    table = pa.table({"id": [1], "text": ["t"], "day": [datetime.date(2024, 5, 17)], "at": [datetime.time(10, 11)],
                      "instant": pa.array([0], pa.timestamp("ms", "UTC"))})  # fmt: skip
    out = io.BytesIO()
    pq.write_table(table, out)
    settings = source("parquet", fields={"date": "day", "metadata": ["instant", "at"]})
    [document], _ = documents_of(settings, out.getvalue())
    assert document.date == "2024-05-17"
    assert document.metadata == {"instant": "1970-01-01T00:00:00+00:00", "at": "10:11:00"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_spell_is_rejected(value: float) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [1], "text": ["t"], "n": [value]}), out)
    documents, [reject] = documents_of(source("parquet", fields={"metadata": ["n"]}), out.getvalue())
    assert not documents
    assert reject.cause == "wrong_type"


def test_metadata_without_a_value_is_left_out() -> None:
    assert one({"id": 1, "text": "t", "lang": None}, {"metadata": ["lang", "n"]}).metadata == {}


def test_a_broken_record_becomes_a_reject_with_its_place_and_sample() -> None:
    documents, [reject] = documents_of(source(), b'{"id": 1, "text": "t"}\n{"id"\n', name="a.jsonl")
    assert len(documents) == 1
    assert (reject.cause, reject.position, reject.sample) == ("broken_json", "a.jsonl@23", '{"id"')


def test_text_formats_need_no_declared_fields() -> None:
    [document], _ = documents_of(source("markdown", fields={"id": "x", "text": "y"}), b"# Guide\n", name="d/guide.md")
    assert (document.id, document.uri, document.title) == ("d/guide.md", "d/guide.md", "Guide")


def test_a_value_that_no_rule_foresees_rejects_its_record() -> None:
    class Odd(str):
        def strip(self, chars: str | None = None) -> str:
            raise TypeError("not today")

    rejects = Rejects()
    record = Record(Position("a.jsonl", 7), {"id": "a", "text": Odd("t")})
    assert _document_or_reject(record, FieldsSettings(), {}, rejects) is None
    assert rejects.counts == {"poison_document": 1}
    assert "reading raised TypeError: not today" in rejects.lines[0].decode()
