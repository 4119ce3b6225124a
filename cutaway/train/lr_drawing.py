"""The curve of a learning rate range test, drawn by matplotlib."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cutaway.train.lr_finding import LrCurve

_INK, _SOFT, _STEEPEST, _TENTH = "#1b1d21", "#9aa3b2", "#2f5fd0", "#b3372c"


def draw_lr_curve(curve: LrCurve, title: str = "Learning rate range test") -> Figure:
    """Loss over the learning rate, on a logarithmic scale, with the two rates that are read off it."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(curve.rates, curve.losses, ".", color=_SOFT, markersize=4, label="each batch")
    axes.plot(curve.rates, curve.smoothed, color=_INK, linewidth=1.8, label="smoothed")
    for rate, name, color in (
        (curve.steepest, "steepest descent, proposed", _STEEPEST),
        (curve.tenth, "a tenth of the minimum's", _TENTH),
    ):
        axes.axvline(rate, color=color, linewidth=1.2, linestyle="--", label=f"{rate:.2g}: {name}")
    # The last batches before the loss left the scale would flatten everything that matters.
    low, high = min(curve.losses), max(curve.smoothed[0], curve.losses[0])
    axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss of a batch (nats)")
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    return figure


def lr_curve_png(curve: LrCurve, title: str = "Learning rate range test") -> bytes:
    """The drawing as a PNG file's bytes."""
    buffer = io.BytesIO()
    draw_lr_curve(curve, title).savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
