"""The command line as a user meets it: help, examples, JSON, progress, exit codes and signals."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import typer

from jobs.commands import app
from pipelines.store import open_store
from tests.e2e.command import COMMAND, PROJECT, backhaul, backhaul_here, environment, worker_processes
from tests.e2e.corpora import write_conf, write_corpus, write_three_partitions
from tests.fixtures.s3 import Bucket
from tests.service.served import served

VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
COMMANDS = {f"{verb} {name}" if name else verb: command for verb, group in VERBS.items()
            for name, command in getattr(group, "commands", {"": group}).items()}  # fmt: skip
DOCUMENTS = 60


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small corpus where conf/demo.yaml looks for one, with judged queries beside it."""
    folder = tmp_path_factory.mktemp("demo")
    kept = os.environ.get("BACKHAUL_DEMO")
    os.environ["BACKHAUL_DEMO"] = str(folder)
    rows = [{"id": f"pkg.f{i}", "title": f"pkg.f{i}", "text": f"Parse a date number {i} from a string.", "doc_type": "function",
             "package": "pkg", "version": "1", "source": "pkg.py"} for i in range(DOCUMENTS)]  # fmt: skip
    (folder / "corpus" / "pkg").mkdir(parents=True)
    (folder / "corpus" / "pkg" / "docs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "parse date number 7"}\n')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tpkg.f7\t1\n")
    yield folder
    if kept is None:
        del os.environ["BACKHAUL_DEMO"]
    else:
        os.environ["BACKHAUL_DEMO"] = kept


SERVING = ("serve", "warm")


def _example(verb: str) -> list[str]:
    text = " ".join((COMMANDS[verb].help or "").split())
    found = re.search(r"Example: backhaul (.*)$", text)
    assert found, f"{verb} has no example in its help"
    return shlex.split(found.group(1))


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_verb_has_an_example_in_its_help_that_names_it(verb: str) -> None:
    assert " ".join(_example(verb)).startswith(f"{verb} ")


def test_the_examples_of_serving_run_and_serving_ends_well(demo: Path) -> None:
    conf = PROJECT / "conf" / "demo.yaml"
    serving, warming = (_example(verb) for verb in SERVING)
    assert serving[:2] == ["serve", "conf/demo.yaml"]
    assert backhaul_here("run", conf).code == 0
    with served(conf, log=demo / "serve.log") as service:
        words = [str(conf) if word == "conf/demo.yaml" else word for word in warming]
        words = [str(demo / "queries.jsonl") if word == "queries.jsonl" else word for word in words]
        for more in ([], ["--json"]):
            done = backhaul_here(*words, "--url", service.url, *more)
            assert done.code == 0, done.err
        assert done.json["refused"] == 0
    assert service.process.returncode == 0


@pytest.mark.timeout(280)
def test_every_example_runs_and_every_json_parses(demo: Path) -> None:
    conf = str(PROJECT / "conf" / "demo.yaml")
    order = ["plan", "embed", "load", "verify", "repair", "release", "run", "status", "failures", "retry", "list", "query",
             "evaluate", "doctor", "key", "model pin", "model export", "model quantize", "model compare", "gc", "rollback", "drop"]  # fmt: skip
    assert sorted([*order, *SERVING]) == sorted(COMMANDS)
    other = ["--set", "index.m=8"]
    for verb in order:
        words = [{"conf/demo.yaml": conf, "CONF": conf, "queries.jsonl": str(demo / "queries.jsonl"),
                  "qrels.tsv": str(demo / "qrels.tsv"),
                  "serve.auth.api_keys=keys.jsonl": f"serve.auth.api_keys={demo / 'keys.jsonl'}"}.get(word, word) for word in _example(verb)]  # fmt: skip
        if verb == "rollback":  # needs a second release to go back from
            assert backhaul_here("run", conf, *other).code == 0
        if verb == "drop":
            generations = backhaul_here("list", conf, "--json").json["generations"]
            words = [next(g["generation"] for g in generations if not g["live"]) if w == "NAME" else w for w in words]
        if verb in ("model export", "model quantize"):
            continue  # test_model.py runs them on a tiny model: with the demo's they take a minute
        if verb not in ("drop", "rollback"):  # once is all that these can do
            shown = backhaul_here(*words)
            assert shown.code == 0, (words, shown.err)
            assert shown.out.strip()
        parsed = backhaul_here(*words, "--json")
        assert parsed.code == 0, (words, parsed.err)
        assert isinstance(parsed.json, dict)


def _readme_commands(conf: str) -> list[list[str]]:
    """The words of each ``backhaul`` line in the README that names ``conf``, in order."""
    text = (PROJECT / "README.md").read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines() if "bin/backhaul " in line]
    return [words[1:] for words in lines if conf in words]


def test_the_readme_commands_of_the_demo_run(demo: Path) -> None:
    conf = str(PROJECT / "conf" / "demo.yaml")
    assert backhaul_here("run", conf).code == 0
    commands = _readme_commands("conf/demo.yaml")
    assert len(commands) >= 4
    for words in commands:
        if words[0] == "serve":
            with served(Path(conf), *words[2:], log=demo / "serve.log") as service:
                assert service.search(query="parse a date", k=3)["hits"]
            continue
        outcome = backhaul_here(*(conf if word == "conf/demo.yaml" else word for word in words))
        assert outcome.code == 0, (words, outcome.err)


@pytest.mark.opensearch
def test_the_readme_run_description_and_its_commands_run(
    tmp_path: Path, opensearch_url: str, s3_bucket: Bucket
) -> None:
    """As printed, but for the bucket's name, the addresses of the stand-in and the node, torch's slow start, and the
    replicas that one node cannot hold."""
    text = re.search(r"```yaml\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    assert text
    storage = f"{{endpoint: '{s3_bucket.endpoint}', region: us-east-1}}"
    described = text[1].replace("s3://my-bucket", s3_bucket.uri).replace("backend: torch", "backend: onnx")
    described = described.replace('"https://search.example.com:9200"', f"{opensearch_url}, replicas: 0").replace(
        "  format: jsonl", f"  storage: {storage}\n  format: jsonl"
    )
    conf = tmp_path / "papers.yaml"
    conf.write_text(f"{described}storage: {storage}\n".replace("corpus: papers", "corpus: readme-papers"))
    rows = [{"id": f"p{i}", "title": f"Paper {i}", "body": f"What you are looking for is {i}.", "kind": "paper", "lang": "en",
             "url": f"https://example.com/{i}"} for i in range(20)]  # fmt: skip
    open_store(s3_bucket.uri, s3_bucket.storage).put("papers/paper/a.jsonl", b"\n".join(map(orjson.dumps, rows)))
    for words in _readme_commands("papers.yaml"):
        if words[0] == "rollback":  # needs a second release to go back from
            assert backhaul_here("run", conf, "--set", "index.m=8").code == 0
        outcome = backhaul_here(*(conf if word == "papers.yaml" else word for word in words))
        assert outcome.code == 0, (words, outcome.err)


def test_help_of_the_whole_lists_each_verb_with_a_sentence() -> None:
    shown = backhaul_here("--help").out
    assert [verb for verb in VERBS if not re.search(rf"^\s+{verb}\s+\S+", shown, re.MULTILINE)] == []


def test_a_wrong_option_is_wrong_usage() -> None:
    outcome = backhaul_here("plan", "conf/demo.yaml", "--nope")
    assert outcome.code == 2
    assert "--nope" in outcome.err


def test_an_error_under_json_is_one_object_too(tmp_path: Path) -> None:
    outcome = backhaul_here("status", tmp_path / "nope.yaml", "--json")
    assert outcome.code == 2
    assert outcome.json["exit_code"] == 2
    assert "does not exist" in outcome.json["message"]


def test_what_moves_the_alias_asks_first_and_says_so_where_nobody_answers(demo: Path) -> None:
    outcome = backhaul("rollback", PROJECT / "conf" / "demo.yaml")
    assert outcome.code == 2
    assert "--yes" in outcome.err


def _long_run(folder: Path) -> Path:
    source = write_corpus(folder / "source", objects=4, documents=3000)
    return write_conf(folder / "run.yaml", root=f"file://{folder}/root", source=f"file://{source}",
                      embed={"rows_per_part": 16}, partition={"target_tokens": 20_000})  # fmt: skip


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_75_names_the_command_and_the_same_command_resumes(
    tmp_path: Path, sign: signal.Signals
) -> None:
    conf = _long_run(tmp_path)
    driver = subprocess.Popen([*COMMAND, "embed", str(conf)], env=environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((tmp_path / "root").glob("runs/*/parts/*/*")):
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.02)
    workers = worker_processes(driver.pid)
    driver.send_signal(sign)
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 75, err
    assert out == ""
    assert "resume" in err
    assert not [worker for worker in workers if worker.is_running()]
    status = backhaul_here("status", conf, "--json").json
    assert status["parts_recomputed"] == 0
    done = backhaul("embed", conf, "--json")
    assert done.code == 0, done.err
    assert done.json["rows"] == 12_000
    assert backhaul_here("status", conf, "--json").json["parts_recomputed"] <= 4


def test_plan_lists_anew_and_a_run_resumes_the_newest_plan(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=1, documents=10)
    conf = write_conf(
        tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{source}", engine={"workers": 0}
    )
    first, again = backhaul_here("plan", conf, "--json").json, backhaul_here("plan", conf, "--json").json
    assert (first["how"], again["how"]) == ("planned", "unchanged")
    assert again["run_id"] == first["run_id"]
    (source / "faq" / "more.jsonl").write_text('{"id": "x", "title": "t", "text": "more words"}\n')
    grown = backhaul_here("plan", conf, "--json").json
    assert (grown["how"], grown["number"]) == ("planned", 2)
    done = backhaul_here("run", conf, "--json").json
    assert (done["how"], done["run_id"], done["rows"]) == ("resumed", grown["run_id"], 11)


def test_a_second_run_does_nothing_twice(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=2, documents=40)
    conf = write_conf(
        tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{source}", engine={"workers": 0}
    )
    first, second = backhaul_here("run", conf, "--json"), backhaul_here("run", conf, "--json")
    assert (first.code, second.code) == (0, 0), second.err
    assert first.json["partitions_embedded"] > 0
    assert second.json["partitions_embedded"] == 0
    assert second.json["released"] is False
    assert len(list((tmp_path / "root").glob("corpora/*/verifications/*/*/*"))) == 1


def test_other_index_settings_make_another_generation_and_embed_nothing(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=2, documents=40)
    conf = write_conf(
        tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{source}", engine={"workers": 0}
    )
    first = backhaul_here("run", conf, "--json").json
    second = backhaul_here("run", conf, "--json", "--set", "index.analyzer=german").json
    assert second["run_id"] == first["run_id"]
    assert second["generation"] != first["generation"]
    assert second["previous"] == first["generation"]
    assert second["partitions_embedded"] == 0


def test_the_card_says_what_was_done(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "source", objects=2, documents=40)
    conf = write_conf(
        tmp_path / "run.yaml", root=f"file://{tmp_path}/root", source=f"file://{source}", engine={"workers": 0}
    )
    done = backhaul_here("run", conf, "--json").json
    page = Path(done["card"].removeprefix("file://")).read_text()
    card = json.loads(Path(done["card"].removeprefix("file://")).with_suffix(".json").read_text())
    assert card["live"] is True
    assert card["done"]["documents"] == 80
    assert all(gate["passed"] for gate in card["gates"])
    assert done["content_digest"] in page


def test_sigterm_outside_of_an_engine_ends_with_75_as_well(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # an index that takes the connection and says nothing
        mute.settimeout(60)
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        conf = write_three_partitions(tmp_path, index={"target": "opensearch", "url": url})
        command = subprocess.Popen([*COMMAND, "list", str(conf)], env=environment(), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        try:
            connection, _ = mute.accept()
            command.terminate()
            _, err = command.communicate(timeout=60)
        finally:
            command.kill()
        connection.close()
    assert command.returncode == 75
    assert err == "backhaul: interrupted; the same command resumes\n"
