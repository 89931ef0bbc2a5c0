"""How the results of ``backhaul model`` read on a terminal. Takes the same value that ``--json`` prints."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.table import Table

Result = dict[str, Any]


def pin(r: Result) -> str:
    what = f"{r['files']} files, {r['bytes'] / 1e6:,.1f} MB"
    done = (
        f"pinned {r['pinned']}: {what}"
        if r["written"]
        else f"{r['pinned']} was pinned already: {what}, all as they were"
    )
    return "\n".join([done, f"licence {r['licence']} ({r['licence_source']})", *_settings(r)])


def made(r: Result) -> str:
    done = "made" if r["written"] else "made again, to the same bytes:"
    a = r["agreement"]
    lines = [f"{done} an {r['precision']} file ({r['method']}), {r['sha256'][:12]}; {a['compared_with']} beside it on {a['data']}:",
             f"cosine min {a['cosine']['min']:.5f}, p1 {a['cosine']['p1']:.5f}, p50 {a['cosine']['p50']:.5f}; "
             f"{a['tokens_per_s']['fast']:,.0f} tokens/s beside {a['tokens_per_s']['plain']:,.0f}"]  # fmt: skip
    if "ndcg@10" in a:
        n = a["ndcg@10"]
        lines.append(f"nDCG@10 {n['fast']:.4f} beside {n['plain']:.4f} ({_loss(n['relative_loss'])})")
    return "\n".join([*lines, *_settings(r)])


def benchmark(r: Result) -> list[str]:
    """The ways to embed, the fastest first, and the settings of the one that was chosen."""
    lines = [f"ways to embed, measured on {r['texts']} texts of the corpus with {r['threads']} threads ({r['hardware']}):",
             f"     {'':<30} {'tokens/s':>10} {'batch':>8} {'start':>8} {'cosine p1':>10}"]  # fmt: skip
    for way in r["ways"]:
        name = " ".join(filter(None, [way["backend"], way["precision"], _file(way["derived"])]))
        if "failed" in way:
            lines.append(f"     {name:<30} {way['failed'].splitlines()[0]}")
            continue
        cosine = "" if way["cosine_p1"] is None else f"{way['cosine_p1']:.4f}"
        lines.append(f"     {name:<30} {way['tokens_per_s']:>10,.0f} {way['batch_tokens']:>8,} "
                     f"{way['load_s'] + way['warm_s']:>6.1f} s {cosine:>10}")  # fmt: skip
    return [*lines, f"the fastest with a cosine p1 of at least {r['least_cosine_p1']} is kept for `embed.backend: auto`, or set:",
            *(f"  {name}: {value}" for name, value in r["settings"].items())]  # fmt: skip


def _file(derived: str | None) -> str:
    """A file as a table has room for it: the beginning of its digest, or its own name."""
    if not derived:
        return ""
    folder, _, name = derived.rpartition("/")
    return folder.rpartition("/")[2][:8] if name == "model.onnx" else name.rpartition(":")[2][:18]


def compare(r: Result) -> str:
    table = Table(title=None, show_edge=False, pad_edge=False)
    table.add_column(r["data"], overflow="fold")
    for name in (r["with"], r["compared"]):
        table.add_column(name, justify="right")
    table.add_column("difference", justify="right")
    cosine, ndcg, recall, rate = r["cosine"], r["ndcg@10"], r["recall@100"], r["tokens_per_s"]
    for name, label in (("min", "cosine, least"), ("p1", "cosine, 1 % below"), ("p50", "cosine, half below")):
        table.add_row(label, "1", f"{cosine[name]:.6f}", f"{cosine[name] - 1:+.6f}")
    table.add_row("nDCG@10", f"{ndcg['plain']:.4f}", f"{ndcg['fast']:.4f}", _loss(ndcg["relative_loss"]))
    table.add_row(
        "recall@100", f"{recall['plain']:.4f}", f"{recall['fast']:.4f}", f"{recall['fast'] - recall['plain']:+.4f}"
    )
    table.add_row(
        f"tokens/s, {r['threads']} threads",
        f"{rate['plain']:,.0f}",
        f"{rate['fast']:,.0f}",
        f"x {rate['fast'] / rate['plain']:.2f}",
    )
    out = io.StringIO()
    Console(file=out, width=110, color_system=None).print(table)
    lines = [line.rstrip() for line in out.getvalue().rstrip().splitlines()]
    lines.append(f"{r['documents']:,} documents, {r['queries']:,} queries, exact search; {r['hardware']}")
    if r["self_made"]:
        lines.append(
            "The labels are made of the corpus itself: good for comparing the two, no measure of what users will find."
        )
    return "\n".join([*lines, *([f"picture: {r['plot']}"] if r["plot"] else [])])


def _loss(relative_loss: float) -> str:
    return f"{round(-relative_loss, 4) + 0.0:+.2%}"  # never minus nothing


def _settings(r: Result) -> list[str]:
    """Lines to paste into a run description."""
    return [
        "settings to use:",
        "  embed:",
        *(f"    {key.removeprefix('embed.')}: {value}" for key, value in r["settings"].items()),
    ]
