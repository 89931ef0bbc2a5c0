"""The plots of a run's card: SVG to stand in a page, without script, fonts or anything else from outside.

Colours are names that the page gives values, so that one plot is right on light and dark. Imports matplotlib, which takes
half a second: import this module where a card is made, not before.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

Axes = Any  # matplotlib brings no types that mypy takes
_COLOURS = {name: f"#0000{i:02x}" for i, name in enumerate(
    ("ink", "dim", "line", "embedded", "truncated", "reused", "unembedded", "loading", "computing", "waiting", "parts"), 1)}  # fmt: skip
_SETTINGS = {
    "svg.fonttype": "none", "font.size": 11, "text.parse_math": False, "axes.spines.top": False,
    "axes.spines.right": False, "axes.spines.left": False, "axes.grid.axis": "y", "axes.axisbelow": True,
    "text.color": _COLOURS["ink"], "axes.labelcolor": _COLOURS["dim"], "axes.edgecolor": _COLOURS["line"],
    "xtick.color": _COLOURS["line"], "ytick.color": _COLOURS["line"], "grid.color": _COLOURS["line"],
    "xtick.labelcolor": _COLOURS["dim"], "ytick.labelcolor": _COLOURS["dim"], "ytick.major.size": 0,
    "grid.linewidth": 0.6, "axes.linewidth": 0.8,
}  # fmt: skip
_WIDTH_IN = 5.0  # wide enough for half a desktop page, and its text still legible on a telephone
_TYPES = 10
_WORKERS = 8
_LABEL = 22  # characters


def lengths(ledger: Mapping[str, Any], max_tokens: int) -> str:
    """How many chunks have how many tokens, and where the model's limit is."""
    buckets = {int(bound): count for bound, count in ledger["lengths"].items()}

    def draw(axes: Axes) -> None:
        lows = [_bucket_begin(bound) for bound in buckets]
        colours = [_COLOURS["embedded" if bound <= max_tokens else "truncated"] for bound in buckets]
        axes.bar(lows, list(buckets.values()), [bound - low for bound, low in zip(buckets, lows, strict=True)],
                 align="edge", color=colours, edgecolor="none", rasterized=False)  # fmt: skip
        left, right = min(lows), max(buckets)
        if max_tokens <= 4 * right:
            right = max(right, max_tokens)
            axes.axvline(max_tokens, color=_COLOURS["ink"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(f"limit {max_tokens:,}", (max_tokens, 1), (-5, 0), ("data", "axes fraction"), "offset points",
                          ha="right", va="top")  # fmt: skip
            axes.margins(y=0.16)  # room for it above the bars
        axes.set_xscale("log", base=2)
        axes.set_xlim(max(left, 0.8), right * 1.08)
        ticks = [tick for tick in _octaves(left, right) if max(left, 1) <= tick <= right]
        ticks = ticks[:: 1 + len(ticks) // 9]
        axes.set_xticks(ticks, [_short(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("tokens in the chunk")
        _count_axis(axes, "chunks")

    return _svg("lengths", 3.0, draw)


def types(ledger: Mapping[str, Any]) -> str:
    """Tokens by document type: embedded, cut off, taken from an earlier run, without a vector."""
    ranked = sorted(ledger["by_type"].items(), key=lambda item: (-item[1]["tokens"], item[0]))
    rest = [counts for _, counts in ranked[_TYPES:]] + ([ledger["other_types"]] if "other_types" in ledger else [])
    rows = [(name or "no type", counts) for name, counts in ranked[:_TYPES]]
    if rest:
        rows.append(("all others", {name: sum(counts[name] for counts in rest) for name in rest[0]}))

    def draw(axes: Axes) -> None:
        _stacked(axes, [name for name, _ in rows], {
            "embedded": [counts["embedded_tokens"] for _, counts in rows],
            "truncated": [counts["truncated_tokens"] for _, counts in rows],
            "reused": [counts["reused_tokens"] for _, counts in rows],
            "unembedded": [counts["rejected_tokens"] for _, counts in rows],
        })  # fmt: skip
        axes.set_xlabel("tokens")
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))

    return _svg("types", 0.9 + 0.36 * len(rows), draw, left_in=_room([name for name, _ in rows]))


def pace(over_time: Mapping[str, Any]) -> str:
    """Tokens per second of all workers together, over the time at work."""
    rates, step_s = over_time["tokens_per_second"], over_time["step_s"]
    unit, length = next(((name, s) for name, s in (("hours", 3600), ("minutes", 60)) if step_s * len(rates) > 2 * s),
                        ("seconds", 1))  # fmt: skip

    def draw(axes: Axes) -> None:
        edges = [i * step_s / length for i in range(len(rates) + 1)]
        axes.stairs(rates, edges, fill=True, color=_COLOURS["computing"], alpha=0.25)
        axes.stairs(rates, edges, color=_COLOURS["computing"], linewidth=1.6, baseline=None)
        axes.set_xlim(0, edges[-1])
        axes.set_xlabel(f"{unit} at work")
        _count_axis(axes, "")

    return _svg("pace", 3.0, draw)


def time_spent(embedding: Mapping[str, Any]) -> str:
    """Where the time of all workers, and of each of the first few, went; in shares of their time."""
    workers = embedding["by_worker"][:_WORKERS]
    rows = [("all workers", embedding["seconds"])]
    if len(workers) > 1:
        rows += [(one["worker"], one["seconds"]) for one in workers]

    def draw(axes: Axes) -> None:
        sums = [sum(seconds.values()) or 1.0 for _, seconds in rows]
        _stacked(axes, [name for name, _ in rows], {
            name: [seconds[name] / whole for (_, seconds), whole in zip(rows, sums, strict=True)]
            for name in ("computing", "waiting", "parts", "loading")})  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of time")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    return _svg("time", 0.9 + 0.36 * len(rows), draw, left_in=_room([name for name, _ in rows]))


def _stacked(axes: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]]) -> None:
    """A bar from left to right for each name, the first on top."""
    left = [0.0] * len(names)
    for name, widths in parts.items():
        axes.barh(range(len(names)), widths, 0.62, left, color=_COLOURS[name], edgecolor="none")
        left = [begin + width for begin, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(names)), [_label(name) for name in names])
    axes.tick_params(axis="y", labelcolor=_COLOURS["ink"])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.locator_params(axis="x", nbins=5)


def _room(names: Sequence[str]) -> float:
    """Inches for the longest label, of letters of the usual width."""
    return 0.12 + 0.088 * max(len(_label(name)) for name in names)


def _label(name: str) -> str:
    """Names of hosts differ in their ends."""
    return name if len(name) <= _LABEL else f"{name[: _LABEL - 9]}…{name[-8:]}"


def _count_axis(axes: Axes, label: str) -> None:
    axes.grid(visible=True)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=5)
    axes.set_title(label, loc="left", fontsize=11, color=_COLOURS["dim"])
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))


def _svg(name: str, height_in: float, draw: Callable[[Axes], None], *, left_in: float = 0.55) -> str:
    """``left_in``: room for the labels of the rows. matplotlib's own layout would draw everything twice to find it."""
    with mpl.rc_context(_SETTINGS | {"svg.hashsalt": name}), warnings.catch_warnings():
        # The page's own fonts show what the measuring one has no glyph for.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(_WIDTH_IN, height_in))
        figure.subplots_adjust(left_in / _WIDTH_IN, 0.55 / height_in, 1 - 0.18 / _WIDTH_IN, 1 - 0.28 / height_in)
        draw(figure.add_subplot())
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})  # fmt: skip
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="(?:figure|patch|axes|matplotlib\.axis|[xy]tick|line2d|text|[A-Z]\w*Collection)_\d+"', "", svg)
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    for colour, code in _COLOURS.items():
        svg = svg.replace(code, f"var(--{colour})")
    return svg


def _bucket_begin(bound: int) -> int:
    """The upper bound of the bucket before; see pipelines.ledger.length_bucket."""
    return bound - 1 if bound <= 4 else bound - (1 << (bound - 1).bit_length() - 3)


def _octaves(left: float, right: float) -> list[int]:
    """Powers of two, and what is between them where there are few."""
    powers = [1 << n for n in range(24)]
    inside = [power for power in powers if left <= power <= right]
    return sorted({*powers, *(power * 3 // 2 for power in powers if power > 1)}) if len(inside) < 4 else powers


def _short(value: float) -> str:
    """1,200, 12k, 3.4M: what fits beside an axis."""
    for size, sign in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (10 if sign == "k" else 1):
            return f"{value / size:.3g}{sign}"
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
