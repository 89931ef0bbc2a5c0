"""Audit lines: one for each request, whatever it holds, in bounds, and the words of a query only where that is asked."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from jobs.service.audit import Audit, AuditSettings
from jobs.service.auth import Caller
from pipelines.errors import SettingsError


@dataclass
class Told:
    generation: str = "papers-1"
    hits: int = 3
    cached: bool = False


def write(audit: Audit, **changed: Any) -> None:
    whole: dict[str, Any] = {"id_": "00ff", "caller": Caller("crawler", "acme"), "method": "POST", "path": "/v1/search", "status": 200,
                             "seconds": 0.0123456, "spent": Told(), "more": {"k": 10, "mode": "hybrid", "query": "steam"}}  # fmt: skip
    audit.write(**{**whole, **changed})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_a_line_says_who_asked_what_and_what_became_of_it(file: Path) -> None:
    audit = Audit(AuditSettings(path=str(file)))
    write(audit)
    audit.close()
    (line,) = lines(file)
    assert line.pop("at").endswith("+00:00")
    assert line == {"id": "00ff", "subject": "crawler", "tenant": "acme", "method": "POST", "path": "/v1/search", "status": 200,
                    "ms": 12.346, "generation": "papers-1", "hits": 3, "cached": False, "k": 10, "mode": "hybrid", "refused": None}  # fmt: skip


def test_a_refusal_has_its_reason_and_no_caller(file: Path) -> None:
    audit = Audit(AuditSettings(path=str(file)))
    write(audit, caller=None, status=401, spent=Told(generation="", hits=0), more={"refused": "expired"})
    audit.close()
    (line,) = lines(file)
    assert (line["subject"], line["tenant"], line["refused"], line["status"]) == (None, None, "expired", 401)
    assert (line["generation"], line["k"], line["mode"]) == (None, None, None)


def test_the_words_of_a_query_are_written_only_where_that_is_asked(file: Path) -> None:
    for wanted in (False, True):
        audit = Audit(AuditSettings(path=str(file), query_text=wanted))
        write(audit)
        write(audit, more={"query": None})
        audit.close()
    without, none, with_, nothing = lines(file)
    assert "steam" not in json.dumps(without)
    assert (with_["query"], with_["query_characters"]) == ("steam", 5)
    assert not {"query", "query_characters"} & {*without, *none, *nothing}


def test_nothing_but_what_is_listed_is_written(file: Path) -> None:
    audit = Audit(AuditSettings(path=str(file), query_text=True))
    write(audit, more={"authorization": "Bearer secret", "token": "secret", "hits": 999})
    audit.close()
    assert "secret" not in file.read_text()
    assert lines(file)[0]["hits"] == 3


def test_texts_are_bounded_and_say_so(file: Path) -> None:
    audit = Audit(AuditSettings(path=str(file), query_text=True))
    write(audit, path="/v1/" + "x" * 10_000, more={"query": "q" * 5_000, "mode": "m" * 256})
    audit.close()
    (line,) = lines(file)
    assert line["path"] == "/v1/" + "x" * 251 + "…"
    assert line["mode"] == "m" * 256
    assert line["query"] == "q" * 1999 + "…"
    assert line["query_characters"] == 5_000
    assert len(file.read_bytes()) < 4_000


_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)  # lone surrogates as well


@effort(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_text, _text, _text)
def test_whatever_a_caller_sends_stays_in_its_line(tmp_path: Path, path: str, subject: str, query: str) -> None:
    file = tmp_path / "audit.jsonl"
    file.unlink(missing_ok=True)
    audit = Audit(AuditSettings(path=str(file), query_text=True))
    hostile = f'{path}\r\n\x85\u2028{{"id": "forged"}}\n'
    write(audit, path=hostile, caller=Caller(subject, subject), method=query, more={"query": query, "mode": hostile})
    audit.close()
    assert file.read_bytes().count(b"\n") == 1
    assert file.read_bytes().isascii()
    (line,) = lines(file)
    assert (line["path"], line["subject"], line["query"], line["id"]) == (hostile, subject, query, "00ff")


def test_lines_of_many_threads_do_not_mix(file: Path) -> None:
    audit = Audit(AuditSettings(path=str(file)))
    threads = [threading.Thread(target=lambda: [write(audit, path="p" * 200) for _ in range(100)]) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    audit.close()
    assert len(lines(file)) == 400


def test_by_default_lines_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    audit = Audit(AuditSettings())
    write(audit)
    audit.close()
    out, err = capfd.readouterr()
    assert (json.loads(err)["id"], out) == ("00ff", "")


def test_two_services_write_each_line_once(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    audits = [Audit(AuditSettings(path=str(file))) for _ in range(2)]
    for audit in audits:
        write(audit)
        audit.close()
    assert len(lines(file)) == 2
    assert capfd.readouterr().err == ""


def test_a_file_is_its_owners_alone_and_made_anew_where_it_was_moved_away(file: Path) -> None:
    audit = Audit(AuditSettings(path=str(file)))
    write(audit)
    os.rename(file, moved := file.with_suffix(".1"))
    write(audit)
    write(audit)
    audit.close()
    assert (len(lines(moved)), len(lines(file))) == (1, 2)
    assert stat.S_IMODE(moved.stat().st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o600


def test_lines_are_added_to_those_that_are_there(file: Path) -> None:
    for _ in range(2):
        audit = Audit(AuditSettings(path=str(file)))
        write(audit)
        audit.close()
    assert len(lines(file)) == 2


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"serve.audit.path: .*nowhere/audit.jsonl cannot be opened: No such file"):
        Audit(AuditSettings(path=str(tmp_path / "nowhere" / "audit.jsonl")))
