"""The commands: each parses, calls one verb and prints. Verbs are imported when called, so that help answers at
once. Knows no errors: those end in jobs/main.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs.model_commands import model_app
from jobs.options import (
    AsJson,
    Conf,
    EngineName,
    Exact,
    Force,
    GenerationName,
    Index,
    Mode,
    Of,
    Replan,
    RunId,
    Sets,
    Yes,
    confirm,
    given_words,
    open_session,
    print_result,
)

app = typer.Typer(
    name="backhaul",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the time that help takes
    add_completion=False,
    context_settings={"max_content_width": 110},
    help="""Haul a corpus from S3 into a searchable index: plan, embed, load, verify, release, query.

Every verb takes CONF, a run description in YAML (conf/README.md lists its keys). What is done is never done
twice: run a command again after any interruption.

Exit codes: 0 done; 1 failed, resumable; 2 wrong usage or settings; 3 a gate or limit refused; 75 interrupted,
resumable.""",
)

app.add_typer(model_app)


@app.command("plan")
def plan(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False) -> None:
    """List the source anew, cut it into partitions, and print what a run would do, take and cost.

    Writes nothing but the plan.

    Example: backhaul plan conf/demo.yaml
    """
    from jobs.verbs.plan import describe_plan, plan_corpus

    session = open_session(conf, sets, engine, as_json)
    print_result("plan", describe_plan(session, plan_corpus(session)), conf, as_json)


@app.command("run")
def run(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False, replan: Replan = False,
        force: Force = False) -> None:  # fmt: skip
    """Plan, embed, load, verify and release; each does only what is missing.

    Example: backhaul run conf/demo.yaml
    """
    from jobs.verbs.run import run_corpus

    print_result(
        "run", run_corpus(open_session(conf, sets, engine, as_json), replan=replan, force=force), conf, as_json
    )


@app.command("embed")
def embed(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False, replan: Replan = False,
          index: Index = None, of: Of = None) -> None:  # fmt: skip
    """Embed what is pending, planning first if need be, and write the manifest.

    Example: backhaul embed conf/demo.yaml --set engine.workers=2
    """
    from jobs.verbs.embed import embed_corpus

    session = open_session(conf, sets, engine, as_json, index=index, of=of)
    print_result("embed", embed_corpus(session, replan=replan), conf, as_json)


@app.command("load")
def load(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False, run_id: RunId = None,
         index: Index = None, of: Of = None) -> None:  # fmt: skip
    """Load an embedded run into its generation, making the index if need be.

    Example: backhaul load conf/demo.yaml
    """
    from jobs.verbs.load import load_corpus

    session = open_session(conf, sets, engine, as_json, index=index, of=of)
    print_result("load", load_corpus(session, run_id), conf, as_json)


@app.command("serve")
def serve(conf: Conf, sets: Sets = None, engine: EngineName = None,
          host: Annotated[str, typer.Option(help="address to listen on; beyond loopback serve.auth is needed")] = "127.0.0.1",
          port: Annotated[int, typer.Option(help="0: any free one")] = 8080,
          tenant: Annotated[str | None, typer.Option(help="without authentication: whose rows are seen")] = None) -> None:  # fmt: skip
    """Serve the live generation over HTTP, with a search page at /; follows releases.

    Example: backhaul serve conf/demo.yaml --port 8080
    """
    from jobs.verbs.serve import serve_live

    serve_live(open_session(conf, sets, engine, False), host=host, port=port, tenant=tenant)


@app.command("warm")
def warm(conf: Conf, sets: Sets = None, as_json: AsJson = False,
         queries: Annotated[Path, typer.Option(help="JSON lines with query, mode, k…: an audit log, or a list of yours")] = Path("queries.jsonl"),
         url: Annotated[str, typer.Option(help="the running service")] = "http://127.0.0.1:8080",
         limit: Annotated[int, typer.Option(help="how many of the most frequent questions")] = 1_000) -> None:  # fmt: skip
    """Ask a running service the most frequent questions of a log, so that it has their answers at hand.

    A token is taken from the environment variable BACKHAUL_TOKEN.

    Example: backhaul warm conf/demo.yaml --queries queries.jsonl
    """
    from jobs.verbs.warm import warm as warm_service

    session = open_session(conf, sets, None, as_json)
    token = os.environ.get("BACKHAUL_TOKEN")
    print_result("warm", warm_service(url, queries, limit=limit, token=token, quiet=session.quiet), conf, as_json)


@app.command("verify")
def verify(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False, run_id: RunId = None,
           generation: GenerationName = None) -> None:  # fmt: skip
    """Prove a generation, live or not: ids, content and vectors by full scan, Space, mapping, recall, golden queries,
    replicas. Exits 3 when a gate refuses.

    Example: backhaul verify conf/demo.yaml
    """
    from dataclasses import asdict

    from jobs.verbs.release import find_generation
    from jobs.verbs.verify import must_pass, verify_run
    from pipelines.load import must_read_manifest

    session = open_session(conf, sets, engine, as_json)
    found = find_generation(session, run_id=run_id, name=generation)
    plan = session.plan(found.meta.run_id)
    verification = verify_run(session, plan, must_read_manifest(session.store, plan.run_id), found)
    if verification.passed or not as_json:  # the one JSON object of a refusal is its error
        print_result("verify", asdict(verification), conf, as_json)
    must_pass(verification)


@app.command("repair")
def repair(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False, run_id: RunId = None,
           generation: GenerationName = None, yes: Yes = False) -> None:  # fmt: skip
    """Mend a generation: delete rows that do not belong, load those that are missing or altered, restore its settings.

    Rows that are right are not touched. Afterwards it needs a verification anew.

    Example: backhaul repair conf/demo.yaml --yes
    """
    from jobs.verbs.release import find_generation
    from jobs.verbs.repair import repair_generation
    from pipelines.load import must_read_manifest

    session = open_session(conf, sets, engine, as_json)
    found = find_generation(session, run_id=run_id, name=generation)
    plan = session.plan(found.meta.run_id)
    confirm(f"Mend {found.name}: remove what does not belong, load what is missing or altered?", yes)
    result = repair_generation(session, plan, must_read_manifest(session.store, plan.run_id), found)
    print_result("repair", result, conf, as_json, given_words(sets, None))


@app.command("release")
def release(conf: Conf, sets: Sets = None, as_json: AsJson = False, run_id: RunId = None,
            generation: GenerationName = None, force: Force = False, yes: Yes = False) -> None:  # fmt: skip
    """Make a proved generation live by one compare-and-swap of the alias.

    Example: backhaul release conf/demo.yaml --yes
    """
    from jobs.verbs.release import find_generation, release_generation

    session = open_session(conf, sets, None, as_json)
    found = find_generation(session, run_id=run_id, name=generation)
    confirm(f"Make {found.name} live?", yes)
    print_result("release", release_generation(session, found, force=force), conf, as_json)


@app.command("rollback")
def rollback(
    conf: Conf, sets: Sets = None, as_json: AsJson = False, to: GenerationName = None, yes: Yes = False
) -> None:
    """Make the generation live again that was live before, or the one that --generation names.

    Example: backhaul rollback conf/demo.yaml --yes
    """
    from jobs.verbs.release import rollback_corpus

    session = open_session(conf, sets, None, as_json)
    confirm(f"Move the alias {session.settings.corpus} back?", yes)
    print_result("rollback", rollback_corpus(session, to), conf, as_json)


@app.command("status")
def status(conf: Conf, sets: Sets = None, as_json: AsJson = False, run_id: RunId = None) -> None:
    """What is done of a run, who is at it, how fast it goes, what was lost, and what is live.

    Example: backhaul status conf/demo.yaml
    """
    from jobs.verbs.status import run_status

    session = open_session(conf, sets, None, as_json)
    print_result("status", run_status(session, session.plan(run_id)), conf, as_json, given_words(sets, run_id))


@app.command("failures")
def failures(conf: Conf, sets: Sets = None, as_json: AsJson = False, run_id: RunId = None) -> None:
    """Failed partitions and rejected records, grouped by cause, with the command that mends them.

    Example: backhaul failures conf/demo.yaml
    """
    from jobs.verbs.failures import run_failures

    session = open_session(conf, sets, None, as_json)
    print_result("failures", run_failures(session, session.plan(run_id)), conf, as_json, given_words(sets, run_id))


@app.command("retry")
def retry(conf: Conf, sets: Sets = None, engine: EngineName = None, as_json: AsJson = False, run_id: RunId = None,
          cause: Annotated[str | None, typer.Option(help="only what failed for this cause")] = None,
          partition: Annotated[str | None, typer.Option(help="only this partition (the beginning of its id)")] = None,
          clear_only: Annotated[bool, typer.Option("--clear-only", help="give the attempts back and run nothing")] = False,
          ) -> None:  # fmt: skip
    """Give failed partitions their attempts back and run them again, and send the index its dead letters again: all, by
    cause, or of one partition.

    Before an array is submitted again, use --clear-only: its children count attempts together.

    Example: backhaul retry conf/demo.yaml --cause StoreError
    """
    from jobs.verbs.retry import retry_run

    session = open_session(conf, sets, engine, as_json)
    result = retry_run(session, session.plan(run_id), cause=cause, partition=partition, clear_only=clear_only)
    print_result("retry", result, conf, as_json, given_words(sets, None))


@app.command(name="list")
def list_(conf: Conf, sets: Sets = None, as_json: AsJson = False) -> None:
    """The corpus's generations, the live one marked.

    Example: backhaul list conf/demo.yaml
    """
    from jobs.verbs.generations import list_generations

    print_result("list", list_generations(open_session(conf, sets, None, as_json)), conf, as_json)


@app.command("drop")
def drop(conf: Conf, generation: Annotated[str, typer.Option("--generation", help="the generation to drop")],
         sets: Sets = None, as_json: AsJson = False, yes: Yes = False) -> None:  # fmt: skip
    """Drop a generation that is not live. Its parts stay: loading it again embeds nothing.

    Example: backhaul drop conf/demo.yaml --generation NAME --yes
    """
    from jobs.verbs.generations import drop_generation

    session = open_session(conf, sets, None, as_json)
    confirm(f"Drop {generation}?", yes)
    print_result("drop", drop_generation(session, generation), conf, as_json)


@app.command("gc")
def gc(conf: Conf, only_list: Annotated[bool, typer.Option("--list", help="delete nothing")] = False,
       sets: Sets = None, as_json: AsJson = False, yes: Yes = False) -> None:  # fmt: skip
    """List what nothing reaches any more, and delete it: generations beyond index.keep_releases, runs of which no
    generation is kept, parts that no manifest names.

    Never the live generation, never what a kept manifest names, nothing that was written to within gc.idle_s.

    Example: backhaul gc conf/demo.yaml --yes
    """
    from jobs.render import gc_question
    from jobs.verbs.garbage import collect_garbage, describe, survey

    session = open_session(conf, sets, None, as_json)
    found = survey(session)
    result = describe(session, found)
    if not (only_list or found.is_empty):
        if not as_json:
            print_result("gc", result, conf, as_json)
        confirm(gc_question(result), yes)
        result = collect_garbage(session, found)
    print_result("gc", result, conf, as_json)


@app.command("query")
def query(conf: Conf, text: Annotated[str, typer.Argument(help="what to search for")], mode: Mode = "hybrid",
          k: Annotated[int, typer.Option("-k", min=1, max=1000, help="how many hits")] = 10, exact: Exact = False,
          sets: Sets = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Search the live generation.

    Example: backhaul query conf/demo.yaml "parse a date from a string" -k 3
    """
    from jobs.verbs.query import query_live

    print_result(
        "query", query_live(open_session(conf, sets, None, as_json), text, mode=mode, k=k, exact=exact), conf, as_json
    )


@app.command("evaluate")
def evaluate(conf: Conf, queries: Annotated[Path, typer.Option(help="BEIR queries.jsonl")],
             qrels: Annotated[Path, typer.Option(help="BEIR qrels.tsv")], mode: Mode = "hybrid", exact: Exact = False,
             sets: Sets = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Measure the live generation's retrieval on labelled queries: nDCG@10, recall@100, MRR@10 by document.

    Example: backhaul evaluate CONF --queries queries.jsonl --qrels qrels.tsv --mode vector --exact
    """
    from jobs.verbs.query import evaluate_live

    session = open_session(conf, sets, None, as_json)
    print_result("evaluate", evaluate_live(session, queries, qrels, mode=mode, exact=exact), conf, as_json)


@app.command("key")
def key(conf: Conf, subject: Annotated[str, typer.Option("--subject", help="who or what will use it, for the audit")],
        tenant: Annotated[str | None, typer.Option("--tenant", help="the tenant whose rows it sees")] = None,
        expires: Annotated[str | None, typer.Option("--expires", help="a day, such as 2030-01-31, or a time with its zone; without it: never")] = None,
        sets: Sets = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Make an API key of the query service: its hash goes into the file serve.auth.api_keys, the key is printed this once.

    Removing its line from the file withdraws it, also while the service runs.

    Example: backhaul key conf/demo.yaml --tenant acme --subject crawler --set serve.auth.method=api_keys
    --set serve.auth.api_keys=keys.jsonl
    """
    from jobs.verbs.key import add_key

    session = open_session(conf, sets, None, as_json)
    result = add_key(session.settings.serve.auth, tenant=tenant, subject=subject, expires=expires)
    print_result("key", result, conf, as_json, given_words(sets, None))


@app.command("doctor")
def doctor(conf: Conf, measure: Annotated[bool, typer.Option("--benchmark", help="measure every way to embed with embed.model that is at hand, and keep the fastest for embed.backend: auto")] = False,
           sample: Annotated[int, typer.Option("--sample", min=1, max=2_000, help="texts of the corpus to measure with")] = 64,
           sets: Sets = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Check settings, access to store and index, model digest, versions and memory, and say how to mend them.

    Example: backhaul doctor conf/demo.yaml
    """
    from jobs.verbs.doctor import examine

    session = open_session(conf, sets, None, as_json)
    result = examine(session)
    if measure and result["ok"]:
        from jobs.verbs.benchmark import benchmark

        result["benchmark"] = benchmark(session, sample=sample)
    print_result("doctor", result, conf, as_json)
    if not result["ok"]:
        raise typer.Exit(1)
