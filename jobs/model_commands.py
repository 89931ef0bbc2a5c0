"""The commands of ``backhaul model``: each parses, calls one verb and prints. Verbs are imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.options import AsJson, Conf, Sets, open_session, print_result

_SAMPLE = 300  # texts; with as many NNCF calibrates by default

model_app = typer.Typer(
    name="model",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"max_content_width": 110},
    help="""Pin a model into the store, export or quantise it, compare it with the original.

Models lie under <root>/models/, found by their digests; workers take them from there, and never from a hub.

Example: backhaul model pin conf/demo.yaml""",
)

Sample = Annotated[
    int,
    typer.Option(
        "--sample",
        min=1,
        max=20_000,
        help="texts of the corpus: to calibrate with, and half as many to measure on; or to compare on",
    ),
]
Corpus = Annotated[Path | None, typer.Option("--corpus", help="BEIR corpus.jsonl, or .jsonl.gz")]
Queries = Annotated[Path | None, typer.Option("--queries", help="BEIR queries.jsonl")]
Qrels = Annotated[Path | None, typer.Option("--qrels", help="BEIR qrels.tsv")]
Limit = Annotated[int | None, typer.Option("--limit", min=10, help="keep about so many of the labelled documents")]


@model_app.command("pin")
def pin(conf: Conf, licence: Annotated[str | None, typer.Option("--licence", help="where neither card nor README says it")] = None,
        sets: Sets = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Copy embed.model into the store, with a card of its digests, licence and origin, and print the settings to use.

    The model may be package:<module>, file:///folder, s3://bucket/folder, or hub:<name>@<revision>, which is downloaded
    here and nowhere else. Pickled weights are never copied.

    Example: backhaul model pin conf/demo.yaml
    """
    from jobs.verbs.model import pin as pin_verb

    print_result("model pin", pin_verb(open_session(conf, sets, None, as_json), licence=licence), conf, as_json)


@model_app.command("export")
def export(conf: Conf, sample: Sample = _SAMPLE, sets: Sets = None, as_json: AsJson = False) -> None:
    """Make the model's ONNX file (fp32, pooling and normalisation inside) and put it into the store with its card.

    It is compared with encode() on texts of the corpus, and kept if it agrees. Needs the extra `torch`.

    Example: backhaul model export conf/demo.yaml --sample 20
    """
    from jobs.verbs.model import export as export_verb

    print_result("model export", export_verb(open_session(conf, sets, None, as_json), sample=sample), conf, as_json)


@model_app.command("quantize")
def quantize(
    conf: Conf,
    method: Annotated[
        Literal["static", "dynamic"],
        typer.Option(help="static: calibrated on the sample; dynamic: ranges of each batch"),
    ] = "static",
    sample: Sample = _SAMPLE,
    corpus: Corpus = None,
    queries: Queries = None,
    qrels: Qrels = None,
    limit: Limit = None,
    min_cosine_p1: Annotated[
        float, typer.Option("--min-cosine-p1", min=0, max=1, help="all but 1 % of the vectors must be as near as this")
    ] = 0.99,
    max_ndcg_loss: Annotated[
        float,
        typer.Option("--max-ndcg-loss", min=0, max=1, help="most that nDCG@10 may fall on labelled data, relative"),
    ] = 0.01,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Make an int8 ONNX file of the model, calibrated on texts of the corpus, and put it into the store with its card.

    It is kept only if it agrees with the original, on labelled data where they are given: else exit code 3. Needs the
    extra `openvino`, and once the extra `torch` for the fp32 file.

    Example: backhaul model quantize conf/demo.yaml --method dynamic --sample 20
    """
    from jobs.verbs.model import LabelledFiles
    from jobs.verbs.model import quantize as quantize_verb
    from pipelines.model.make import Gates

    session, labelled = open_session(conf, sets, None, as_json), LabelledFiles(corpus, queries, qrels, limit)
    gates = Gates(min_cosine_p1, max_ndcg_loss)
    result = quantize_verb(session, method=method, sample=sample, labelled=labelled, gates=gates)
    print_result("model quantize", result, conf, as_json)


@model_app.command("compare")
def compare(
    conf: Conf,
    corpus: Corpus = None,
    queries: Queries = None,
    qrels: Qrels = None,
    limit: Limit = None,
    sample: Sample = _SAMPLE,
    plot: Annotated[Path | None, typer.Option("--plot", help="a picture of it: FILE.svg or FILE.png")] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Compare the embedder of the settings with fp32 encode(): cosines, nDCG@10 and recall@100 by exact search, tokens/s.

    On labelled data in BEIR's layout, or without them on labels made of the corpus itself.

    Example: backhaul model compare conf/demo.yaml --sample 20
    """
    from jobs.verbs.model import LabelledFiles
    from jobs.verbs.model import compare as compare_verb

    session, labelled = open_session(conf, sets, None, as_json), LabelledFiles(corpus, queries, qrels, limit)
    result = compare_verb(session, labelled=labelled, sample=sample, plot=plot)
    print_result("model compare", result, conf, as_json)
