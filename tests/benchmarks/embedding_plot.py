"""The figures of the benchmark of embedding as bars, with matplotlib; needs no window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot  # the backend comes first
from matplotlib.patches import Patch

_OURS, _PEERS, _INK = "#1f6f8b", "#c9c4b8", "#222222"
_DEVICES = {"cpu": "processors", "cuda": "a GPU"}
_NAMES = {"scifact": "SciFact abstracts", "medquad": "MedQuAD answers"}


def plot(figures: dict[str, Any], to: Path) -> Path:
    corpora = list(figures["tokens"])
    told = figures["contenders"]
    order = sorted(told, key=lambda name: sum(told[name]["tokens_per_second"][corpus]["median"] for corpus in corpora))
    figure, axes = pyplot.subplots(1, len(corpora), sharey=True, figsize=(13, 0.36 * len(order) + 2.2))
    for axis, corpus in zip(axes, corpora, strict=True):
        rates = [told[name]["tokens_per_second"][corpus] for name in order]
        medians = [rate["median"] for rate in rates]
        errors = [[rate["median"] - rate["min"] for rate in rates], [rate["max"] - rate["median"] for rate in rates]]
        colours = [_OURS if told[name]["ours"] else _PEERS for name in order]
        axis.barh(
            order, medians, color=colours, xerr=errors, error_kw={"ecolor": _INK, "elinewidth": 0.9, "capsize": 2}
        )
        most = max(rate["max"] for rate in rates)
        for at, rate in enumerate(rates):
            axis.text(rate["max"] + most * 0.015, at, f"{rate['median']:,.0f}", va="center", fontsize=8, color=_INK)
        axis.set_xlim(0, most * 1.14)
        axis.set_ylim(-0.7, len(order) - 0.3)
        axis.set_title(f"{figures['documents']:,} {_NAMES[corpus]}", fontsize=10, loc="left")
        axis.set_xlabel("valid tokens per second (padding not counted)", fontsize=9)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.tick_params(labelsize=8.5)
        axis.grid(axis="x", color="#e6e6e6")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].legend(handles=[Patch(color=_OURS, label="Backhaul"), Patch(color=_PEERS, label="other programs")],
                   loc="lower right", fontsize=9, frameon=False)  # fmt: skip
    figure.suptitle(f"Embedding with all-MiniLM-L6-v2 on {_DEVICES[figures['device']]}, {figures['threads']} threads: median of "
                    f"{figures['rounds']} rounds, lines from the slowest to the fastest", fontsize=11, x=0.01, ha="left")  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    pyplot.rcParams["svg.hashsalt"] = "backhaul"
    figure.savefig(to, facecolor="white", metadata={"Date": None} if to.suffix == ".svg" else None)
    pyplot.close(figure)
    return to
