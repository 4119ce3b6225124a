"""The reliability diagram."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cutaway.inspect.calibration import Calibration
from cutaway.inspect.canvas import ACCENT, ALARM, INK, SOFT, new_figure


def draw_calibration(calibration: Calibration) -> Figure:
    """How often the network is right at each confidence, with intervals of 95 %, over how many samples that is.

    On the dashed line confidence equals the share that is right; the red span from a bar to its mean confidence is
    what the expected calibration error averages.
    """
    figure = new_figure(5.2, 6.2)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    held = calibration.counts > 0
    middle = (calibration.edges[:-1] + calibration.edges[1:])[held] / 2
    width = calibration.edges[1] - calibration.edges[0]
    share, confidence = calibration.recognised[held], calibration.confidence[held]
    axes.bar(middle, share, width * 0.94, color=ACCENT, alpha=0.6, label="share that is right, with its 95 % interval")
    axes.bar(
        middle,
        confidence - share,
        width * 0.94,
        bottom=share,
        color=ALARM,
        alpha=0.4,
        label="gap to the mean confidence",
    )
    reach = np.maximum(0, np.stack([share - calibration.low[held], calibration.high[held] - share]))
    axes.errorbar(middle, share, reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=1)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, 1)
    axes.set_ylabel("share that is right")
    figure.legend(fontsize=7, loc="outside lower left", ncols=2, frameon=False)
    lean = calibration.overconfidence
    worst = f"of {calibration.counts[calibration.worst_bin]:,}"
    if calibration.worst_may_be_chance:
        worst += ", may be chance"
    axes.set_title(
        f"{100 * abs(lean):.1f} points {'more' if lean > 0 else 'less'} sure than right on average, over "
        f"{calibration.num_samples:,} samples\n"
        f"ECE {calibration.ece:.4f}   MCE {calibration.mce:.3f} ({worst})\nBrier {calibration.brier:.4f}   "
        f"NLL {calibration.nll:.4f}",
        fontsize=9,
        loc="left",
    )
    counts = calibration.counts[held]
    below.bar(middle, counts, width * 0.94, color=SOFT, alpha=0.55)
    below.set_yscale("log")
    below.set_ylim(0.7, counts.max() * 6)
    below.set_ylabel("samples")
    below.set_xlabel("confidence: probability of the top class")
    for at, count in zip(middle, counts, strict=True):
        below.text(at, count * 1.15, f"{count:,}", ha="center", va="bottom", fontsize=6, color=INK)
    for part in (axes, below):
        part.spines[["top", "right"]].set_visible(False)
        part.tick_params(labelsize=8)
    return figure
