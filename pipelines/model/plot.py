"""Agreement as a picture: how near the vectors are, and how well each ranks. Knows figures, and no models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.errors import SettingsError
from pipelines.model.agreement import Agreement

_NARROWEST = 1e-4  # of the scale: below it rounding alone would fill the picture
_INK, _PALE, _FAST = "#1b1f24", "#9aa5b1", "#0b6bcb"


def plot_agreement(agreement: Agreement, to: Path, *, plain: str, fast: str, data: str) -> None:
    """Write SVG or PNG, as the suffix of ``to`` says.

    Args:
        plain, fast: names of the two, as a reader knows them.
        data: what was embedded.

    Raises:
        SettingsError: another suffix, or the file cannot be written.
    """
    if to.suffix not in (".svg", ".png"):
        raise SettingsError(f"--plot {to}: write a name that ends in .svg or .png")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ranked = agreement.plain is not None
    figure, axes = pyplot.subplots(1, 2 if ranked else 1, figsize=(11 if ranked else 7, 4.6), squeeze=False,
                                   width_ratios=[3, 2] if ranked else [1])  # fmt: skip
    try:
        _cosines(axes[0][0], agreement, fast)
        if ranked:
            _ranking(axes[0][1], agreement, plain, fast)
        figure.suptitle(f"{fast} beside {plain}\n{data}", fontsize=12, color=_INK)
        figure.tight_layout()
        figure.savefig(to, dpi=150, metadata={"Date": None} if to.suffix == ".svg" else None)
    except OSError as error:
        raise SettingsError(f"--plot {to}: {error.strerror}") from error
    finally:
        pyplot.close(figure)


def _cosines(axes: Any, agreement: Agreement, fast: str) -> None:  # Any: matplotlib's Axes
    """A histogram on a scale from the least cosine to 1, with the percentiles that gates look at."""
    least = min(float(agreement.cosines.min()), 1 - _NARROWEST)
    axes.hist(agreement.cosines.clip(max=1), bins=60, range=(least, 1), color=_FAST, alpha=0.85)
    top = axes.get_ylim()[1] * 1.35  # room for the labels above the bars
    axes.set_ylim(0, top)
    for label, percentile, height in (("lowest", 0, 0.79), ("1 % lie below", 1, 0.86), ("half lie below", 50, 0.93)):
        value = agreement.cosine(percentile)
        right = value > (least + 1) / 2
        axes.axvline(value, color=_INK, linewidth=1, linestyle=":")
        axes.annotate(f"{label} {value:.5f}", (value, top * height), xytext=(-5 if right else 5, 0), fontsize=9, color=_INK,
                      textcoords="offset points", ha="right" if right else "left",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_title("Vectors: cosine of each document's two vectors", fontsize=11)
    axes.set_xlabel("cosine (1 is the same direction)")
    axes.set_ylabel("documents")
    axes.ticklabel_format(axis="x", useOffset=False)
    _bare(axes)


def _ranking(axes: Any, agreement: Agreement, plain: str, fast: str) -> None:  # Any: matplotlib's Axes
    """Bars from zero, so that a difference looks as big as it is."""
    assert agreement.plain is not None
    assert agreement.fast is not None
    names = ("ndcg@10", "recall@100")
    width = 0.38
    for shift, metrics, colour, label in ((-0.5, agreement.plain, _PALE, plain), (0.5, agreement.fast, _FAST, fast)):
        bars = axes.bar(
            [i + shift * width for i in range(2)],
            [100 * metrics[name] for name in names],
            width,
            color=colour,
            label=label,
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=9, padding=2)
    axes.set_xticks(range(2), ["nDCG@10", "recall@100"])
    axes.set_ylim(0, 118)
    axes.set_ylabel("percent")
    axes.set_title(f"Ranking: nDCG@10 {_change(agreement.ndcg_loss or 0.0)}", fontsize=11)
    axes.legend(loc="upper left", fontsize=9, frameon=False, ncols=2)
    _bare(axes)


def _change(loss: float) -> str:
    return f"{abs(loss):.2%} {'lower' if loss > 0 else 'higher'}" if abs(loss) >= 5e-5 else "the same"


def _bare(axes: Any) -> None:  # Any: matplotlib's Axes
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
