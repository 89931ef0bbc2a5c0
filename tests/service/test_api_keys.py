"""API keys: made, known by their hashes, withdrawn, expired; the file and the command that keep them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import tempfile
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.service import key_file
from jobs.service.api_keys import ApiKeys, expiry_of, hash_of, new_key
from jobs.service.auth import AuthSettings, Caller, Unauthorized
from jobs.service.key_file import append_key, must_read_keys, read_keys
from jobs.verbs.key import add_key
from pipelines.errors import SettingsError
from tests.e2e.command import backhaul_here
from tests.service.test_key_set import HandClock

EXPIRY = datetime(2030, 1, 31, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.jsonl"


def add(file: Path, tenant: str | None = "acme", subject: str = "crawler", expires: datetime | None = None) -> str:
    secret, kept = new_key(tenant=tenant, subject=subject, expires=expires)
    append_key(file, kept)
    return secret


def line(**changed: Any) -> str:
    whole = {"id": "k1", "sha256": "0" * 64, "tenant": "acme", "subject": "crawler", "expires": None, **changed}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}) + "\n"


SAID = {
    "malformed": "the token is no API key of this service", "expired": "the API key has expired; ask for a new one",
    "unknown key": "the API key is unknown, or was withdrawn; ask for a new one",
}  # fmt: skip


def why(keys: ApiKeys, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        keys.caller(token)
    assert str(caught.value) == SAID[caught.value.reason]
    return caught.value.reason


def test_a_key_is_256_random_bits_with_a_known_beginning() -> None:
    made = {new_key(tenant="acme", subject="crawler")[0] for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"bh_[A-Za-z0-9_-]{43}", secret) for secret in made)


def test_nothing_of_a_key_is_kept_but_its_hash(file: Path) -> None:
    secret = add(file, expires=EXPIRY)
    kept = json.loads(file.read_text())
    assert re.fullmatch("[0-9a-f]{12}", kept.pop("id"))
    assert kept == {"sha256": hashlib.sha256(secret.encode()).hexdigest(), "tenant": "acme", "subject": "crawler",
                    "expires": "2030-01-31T00:00:00Z"}  # fmt: skip
    assert secret[3:] not in file.read_text()


def test_a_key_becomes_its_caller(file: Path) -> None:
    acme, blue = add(file), add(file, tenant="blue", subject="page")
    everything = add(file, tenant=None)
    keys = ApiKeys(file)
    assert keys.caller(acme) == Caller("crawler", "acme")
    assert keys.caller(blue) == Caller("page", "blue")
    assert keys.caller(everything) == Caller("crawler", None)


def test_any_other_key_is_unknown(file: Path) -> None:
    secret = add(file)
    keys = ApiKeys(file)
    assert why(keys, new_key(tenant="acme", subject="crawler")[0]) == "unknown key"
    assert why(keys, secret[:-1] + ("A" if secret[-1] != "A" else "B")) == "unknown key"


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + "A", lambda s: s[3:], lambda s: s.upper()[:3] + s[3:], lambda s: "",
                                    lambda s: s[:-1] + "!", lambda s: s + "\n", lambda s: hash_of(s), lambda s: "bh_"])  # fmt: skip
def test_what_has_not_the_form_of_a_key_is_none(file: Path, change: Any) -> None:
    secret = add(file)
    assert why(ApiKeys(file), change(secret)) == "malformed"


def test_a_key_ends_when_it_says_so(file: Path) -> None:
    secret, clock = add(file, expires=EXPIRY), HandClock()
    keys = ApiKeys(file, clock)
    clock.now = EXPIRY.timestamp() - 0.001
    assert keys.caller(secret).subject == "crawler"
    clock.now = EXPIRY.timestamp()
    assert why(keys, secret) == "expired"
    clock.now += 1
    assert why(keys, secret) == "expired"


def test_removing_a_line_withdraws_its_key_at_once(file: Path) -> None:
    secrets = [add(file) for _ in range(3)]
    keys = ApiKeys(file)
    file.write_text(
        "".join(text for number, text in enumerate(file.read_text().splitlines(keepends=True)) if number != 1)
    )
    assert keys.caller(secrets[0])
    assert why(keys, secrets[1]) == "unknown key"
    assert keys.caller(secrets[2])
    late = add(file)
    assert keys.caller(late)


def test_the_file_is_read_again_only_when_it_changed(file: Path) -> None:
    secret = add(file)
    keys = ApiKeys(file)
    known = keys._keys
    assert keys.caller(secret)
    assert keys._keys is known
    os.utime(file, (1, 1))
    assert keys.caller(secret)
    assert keys._keys is not known


def test_a_line_that_is_broken_later_opens_nothing_and_the_others_do(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keeping what was known before would keep alive what was withdrawn by the same edit."""
    secrets = [add(file) for _ in range(3)]
    keys = ApiKeys(file)
    lines = file.read_text().splitlines(keepends=True)
    with caplog.at_level(logging.ERROR):
        file.write_text(lines[0] + lines[1][:40] + "\n")
        assert keys.caller(secrets[0])
        assert why(keys, secrets[1]) == "unknown key"
        assert why(keys, secrets[2]) == "unknown key"
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{file}:2 is no API key's line: ")
    assert said.endswith("its key opens nothing until that is mended")


def test_a_file_that_is_gone_withdraws_all(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = add(file)
    keys = ApiKeys(file)
    file.unlink()
    assert why(keys, secret) == "unknown key"
    assert (
        f"{file} cannot be read: No such file or directory; `backhaul key CONF` makes it with a first key; its key"
        in caplog.text
    )
    again = add(file)
    assert keys.caller(again)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("{", "Invalid JSON"), ("[]\n", "it: "), ("x\n", "Invalid JSON"), (line(id=""), "id: must be a text of 1 to 256"),
     (line(id=...), "id: Field required"), (line(sha256="0" * 63), "sha256: "), (line(sha256="A" * 64), "sha256: "),
     (line(sha256="0" * 64 + "\n"), "sha256: "), (line(sha256="g" * 64), "sha256: "), (line(sha256=None), "sha256: "),
     (line(tenant=""), "tenant: must be"), (line(tenant=7), "tenant: "), (line(tenant=...), "tenant: Field required"),
     (line(tenant="a\nb"), "tenant: must be"), (line(tenant="x" * 257), "tenant: must be"), (line(subject=None), "subject: "),
     (line(subject=""), "subject: must be"), (line(expires="soon"), "expires: "), (line(expires="2030-01-31T00:00:00"), "expires: "),
     (line(expires=7), "expires: "), (line(expires=...), "expires: Field required"), (line(key="bh_"), "key: Extra inputs")],
)  # fmt: skip
def test_a_broken_line_is_refused_with_file_and_line(file: Path, wrong: str, said: str) -> None:
    file.write_text(line(id="k0", sha256="1" * 64) + "\n" + wrong)
    with pytest.raises(SettingsError) as caught:
        ApiKeys(file)
    assert str(caught.value).startswith(f"{file}:3 is no API key's line: ")
    assert said in str(caught.value)


def test_a_key_pasted_into_the_file_is_not_repeated(file: Path) -> None:
    secret, _ = new_key(tenant="acme", subject="crawler")
    file.write_text(f"{secret}\n{line(sha256=secret)}{line(id=secret + chr(10))}{line(key=secret)}")
    with pytest.raises(SettingsError) as caught:
        must_read_keys(file)
    assert len(str(caught.value).splitlines()) == 4
    assert secret[3:] not in str(caught.value)


def test_all_that_is_wrong_with_a_line_is_named(file: Path) -> None:
    file.write_text(line(id="", tenant=""))
    name = "must be a text of 1 to 256 printable characters"
    assert read_keys(file) == ({}, [f"{file}:1 is no API key's line: id: {name}; tenant: {name}"])


def test_what_was_read_of_a_key_stays_as_it_is(file: Path) -> None:
    add(file)
    (found,) = must_read_keys(file).values()
    with pytest.raises(ValidationError, match="frozen"):
        found.tenant = "blue"  # type: ignore[misc]


def test_at_most_five_lines_are_named(file: Path) -> None:
    file.write_text("x\n" * 9)
    with pytest.raises(SettingsError) as caught:
        must_read_keys(file)
    assert len(str(caught.value).splitlines()) == 5
    assert len(read_keys(file)[1]) == 9


@pytest.mark.parametrize("second", [line(id="k2"), line(sha256="1" * 64)])
def test_ids_and_hashes_are_there_once(file: Path, second: str) -> None:
    file.write_text(line() + second + line(id="k3", sha256="3" * 64))
    with pytest.raises(SettingsError, match=r":2 has the id or the hash of a line above"):
        must_read_keys(file)
    found, troubles = read_keys(file)
    assert len(troubles) == 1
    assert sorted(found) == ["0" * 64, "3" * 64]


def test_empty_lines_are_no_keys(file: Path) -> None:
    file.write_text("\n" + line() + "  \n\r\n" + line(id="k2", sha256="2" * 64))
    assert sorted(must_read_keys(file)) == ["0" * 64, "2" * 64]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    add(file)
    file.chmod(mode)
    with pytest.raises(
        SettingsError, match=f"can be written by others, who could let anybody in; `chmod 600 {re.escape(str(file))}`$"
    ):
        ApiKeys(file)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o644])
def test_others_may_read_the_hashes(file: Path, mode: int) -> None:
    secret = add(file)
    file.chmod(mode)
    assert ApiKeys(file).caller(secret)


def test_a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode(file: Path) -> None:
    add(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    add(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_keeps_its_owner(file: Path) -> None:
    """Or the service, which runs as somebody else, could read it no more."""
    add(file)
    os.chown(file, 12345, 23456)
    add(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)
    assert len(must_read_keys(file)) == 2


def test_a_link_to_the_file_stays_a_link(tmp_path: Path, file: Path) -> None:
    (tmp_path / "real").mkdir()
    file.symlink_to(tmp_path / "real" / "keys.jsonl")
    secret = add(file)
    assert file.is_symlink()
    assert ApiKeys(file).caller(secret)


def test_a_last_line_without_its_end_is_no_trouble(file: Path) -> None:
    file.write_text(line().rstrip("\n"))
    secret = add(file)
    assert len(must_read_keys(file)) == 2
    assert ApiKeys(file).caller(secret)
    assert file.read_bytes().endswith(b"}\n")


def test_nothing_is_added_to_a_broken_file_and_no_file_is_left_behind(file: Path) -> None:
    file.write_text("x\n")
    with pytest.raises(SettingsError, match=":1 is no API key's line"):
        add(file)
    assert file.read_text() == "x\n"
    assert [found.name for found in file.parent.iterdir()] == ["keys.jsonl"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"nowhere/keys.jsonl cannot be written: No such file .*serve.auth.api_keys"
    ):
        add(tmp_path / "nowhere" / "keys.jsonl")
    with pytest.raises(SettingsError, match="cannot be written: Is a directory"):
        add(tmp_path)


def test_a_replacement_that_fails_leaves_nothing_behind(file: Path) -> None:
    file.mkdir()  # as if somebody had put a folder there meanwhile
    with pytest.raises(IsADirectoryError):
        key_file._replace(file, b"")
    assert [found.name for found in file.parent.iterdir()] == ["keys.jsonl"]


def test_a_file_is_replaced_from_within_its_own_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere may be another file system, from which nothing can be renamed."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    secret = add(file)
    assert ApiKeys(file).caller(secret)


def test_of_many_keys_added_at_once_none_is_lost(file: Path) -> None:
    secrets: list[str] = []
    threads = [threading.Thread(target=lambda: secrets.extend(add(file) for _ in range(10))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    keys = ApiKeys(file)
    assert len(secrets) == 40
    assert all(keys.caller(secret) for secret in secrets)


@pytest.mark.parametrize("wrong", [{"tenant": ""}, {"tenant": "x" * 257}, {"subject": ""}, {"subject": "a\nb"},
                                   {"expires": datetime(2030, 1, 1)}])  # fmt: skip
def test_a_key_has_a_tenant_a_subject_and_a_time_with_a_zone(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^{next(iter(wrong))}: "):
        new_key(**{"tenant": "acme", "subject": "crawler", **wrong})


@pytest.mark.parametrize(
    ("text", "means"),
    [("2030-01-31", EXPIRY), ("2030-01-31T00:00Z", EXPIRY), ("2030-01-31T02:00:00+02:00", EXPIRY),
     ("2030-01-31T12:30:00Z", datetime(2030, 1, 31, 12, 30, tzinfo=UTC))],
)  # fmt: skip
def test_a_day_ends_a_key_when_it_begins_in_utc(text: str, means: datetime) -> None:
    assert expiry_of(text) == means
    assert expiry_of("2030-01-31T02:00:00+02:00").tzinfo == timezone(timedelta(hours=2))


@pytest.mark.parametrize("text", ["", "soon", "31.01.2030", "2030-02-30", "2030-01-31T12:00", "2030-01-31T12", "90"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="no day such as 2030-01-31, and no time such as 2030-01-31T12:00Z"):
        expiry_of(text)
    with pytest.raises(SettingsError, match=f"^'{'x' * 40}' is no day"):
        expiry_of("x" * 100)


def settings(file: Path | None, **changed: Any) -> AuthSettings:
    return AuthSettings(method="api_keys" if file else "none", api_keys=str(file) if file else None, **changed)


def test_the_command_adds_a_key_and_says_it_once(file: Path) -> None:
    found = add_key(settings(file), tenant="acme", subject="crawler", expires="2999-12-31")
    assert ApiKeys(file).caller(found["key"]) == Caller("crawler", "acme")
    assert {**found, "key": "", "id": ""} == {"key": "", "id": "", "tenant": "acme", "subject": "crawler", "file": str(file),
                                              "expires": "2999-12-31T00:00:00+00:00"}  # fmt: skip
    (kept,) = must_read_keys(file).values()
    assert kept.id == found["id"]
    assert add_key(settings(file), tenant="acme", subject="crawler", expires=None)["expires"] is None


@pytest.mark.parametrize(
    ("changed", "asked", "said"),
    [({}, {"tenant": None}, "without --tenant the key would see the rows of every tenant"), ({}, {"expires": "2020-01-01"}, "has passed"),
     ({}, {"expires": "soon"}, "no day such as"), ({}, {"subject": ""}, "subject: must be")],
)  # fmt: skip
def test_the_command_refuses_what_would_open_nothing_or_everything(
    file: Path, changed: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        add_key(settings(file, **changed), **{"tenant": "acme", "subject": "crawler", "expires": None, **asked})
    assert not file.exists()


def test_a_key_of_every_tenant_is_made_where_the_service_would_let_it_in(file: Path) -> None:
    found = add_key(settings(file, tenantless=True), tenant=None, subject="crawler", expires=None)
    assert ApiKeys(file).caller(found["key"]) == Caller("crawler", None)


def test_a_service_without_a_file_of_keys_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match=r"serve.auth.api_keys names no file; set it, and serve.auth.method"):
        add_key(settings(None), tenant="acme", subject="crawler", expires=None)


def test_the_command_line_shows_the_key_and_where_its_hash_went(tmp_path: Path, file: Path) -> None:
    conf = tmp_path / "run.yaml"
    conf.write_text(f"corpus: papers\nroot: file://{tmp_path}/root\nsource: {{uri: file://{tmp_path}/source}}\n"
                    f"serve: {{auth: {{method: api_keys, api_keys: {file}}}}}\n")  # fmt: skip
    shown = backhaul_here("key", conf, "--tenant", "acme", "--subject", "crawler")
    assert shown.code == 0, shown.err
    secret, once, whose, following = shown.out.splitlines()
    assert ApiKeys(file).caller(secret) == Caller("crawler", "acme")
    assert "the only time" in once
    assert str(file) in once
    assert "tenant acme, for crawler, until its line is removed" in whose
    assert following == f"next: backhaul serve {conf}"
    assert (
        backhaul_here("key", conf, "--tenant", "acme", "--subject", "crawler", "--json").json["key"].startswith("bh_")
    )
    assert backhaul_here("key", conf, "--subject", "crawler").code == 2
