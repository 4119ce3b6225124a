"""The accuracy of each slice with its interval."""

from __future__ import annotations

from matplotlib.figure import Figure

from cutaway.inspect.canvas import ACCENT, ALARM, INK, SOFT, fonts, new_figure, plain, shortened
from cutaway.inspect.slices import Slices

_LONGEST_VALUE = 36


def draw_slices(slices: Slices, *, limit: int = 40) -> Figure:
    """A line for each slice: its accuracy with its 95 % interval, and what its classes let expect.

    Red and blue are slices that differ from the rest by more than chance. Of more slices than `limit`, the first.
    """
    shown = slices.slices[:limit]
    figure = new_figure(7.2, 1.5 + 0.27 * len(shown))
    axes = figure.add_subplot()
    colors = {"lower": ALARM, "higher": ACCENT, "": INK}
    for row, part in enumerate(shown):
        color = colors[part.against_the_rest]
        axes.plot([part.low, part.high], [row, row], color=color, linewidth=1.4)
        axes.plot(part.accuracy, row, "o", color=color, markersize=5)
        axes.plot(part.expected, row, "|", color=SOFT, markersize=9)
    axes.axvline(slices.accuracy, color=SOFT, linestyle="--", linewidth=1)
    names = [f"{shortened(plain(part.value), _LONGEST_VALUE)}  ({part.num_samples:,})" for part in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8, family=list(fonts()))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(min(0.98, *(part.low for part in shown)) - 0.02, 1.02)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_xlabel("accuracy with its 95 % interval; the grey tick is what the classes in the slice let expect")
    axes.xaxis.label.set_fontsize(8)
    part_of = "" if len(shown) == len(slices.slices) else f", {len(shown)} of {len(slices.slices):,}"
    axes.set_title(
        f"by {plain(slices.column)} (samples){part_of}; {slices.accuracy:.1%} of all {slices.num_samples:,}\n"
        "red: lower than all others by more than chance, blue: higher",
        fontsize=9,
        loc="left",
        parse_math=False,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e8ec")
    axes.set_axisbelow(True)
    return figure
