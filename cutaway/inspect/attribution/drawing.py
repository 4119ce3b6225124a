"""A picture beside what the methods say of it."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from cutaway.inspect.canvas import INK, SOFT, fonts, grid, new_figure, plain, shortened
from cutaway.inspect.tiles import Scale, color_ramp, fitted, map_tile, scale_of
from cutaway.preprocessing.spec import Pixels

SHOWN = 0.99
"""The share of a map's pixels that its colours tell apart; the strongest few would leave the rest in the dark."""

_SIDE = 224
_MOST_COLUMNS = 5


def draw_attributions(
    picture: Pixels, heatmaps: Mapping[str, Tensor], *, title: str, notes: Mapping[str, str] | None = None
) -> Figure:
    """The picture, and each method's heat-map on a scale of its own with a colour bar.

    Signed maps go from blue, what speaks against the class, over white to red, what speaks for it; maps of magnitudes
    from dark to bright. The ends of a scale leave out the strongest hundredth of the pixels.

    Args:
        picture: uint8 [H, W, 1 or 3].
        heatmaps: By method, float [h, w], raw.
        title: Above all.
        notes: By method, a few words below its name.
    """
    count = len(heatmaps) + 1
    columns = min(_MOST_COLUMNS, count)
    rows = -(-count // columns)
    figure = new_figure(2.5 * columns, 2.75 * rows + 0.4)
    heading = shortened(plain(title), 40 * columns)
    figure.suptitle(heading, fontsize=10, color=INK, x=0.01, ha="left", family=list(fonts()))
    said = "red speaks for the class, blue against it; dark to bright are magnitudes alone"
    figure.supxlabel(said if columns > 2 else said.replace("; ", "\n"), fontsize=7, color=SOFT, x=0.01, ha="left")
    places = grid(figure, rows, columns)
    for axes in places:
        axes.set_axis_off()
    places[0].imshow(fitted(picture, _SIDE), interpolation="nearest")
    places[0].set_title("picture", fontsize=8, color=SOFT)
    for axes, (method, heatmap) in zip(places[1:], heatmaps.items(), strict=False):
        values = heatmap.detach().float().cpu()
        scale = clipped_scale(values)
        axes.imshow(map_tile(values, scale), interpolation="nearest")
        note = (notes or {}).get(method, "")
        axes.set_title(f"{method}\n{note}" if note else method, fontsize=8, color=INK)
        if scale.high > scale.low:
            ramp = ScalarMappable(Normalize(scale.low, scale.high), ListedColormap(color_ramp(scale) / 255))
            bar = figure.colorbar(ramp, ax=axes, fraction=0.04, pad=0.02, extend="both" if scale.is_signed else "max")
            bar.ax.tick_params(labelsize=6, colors=SOFT)
        else:
            axes.text(0.5, 0.5, "zero everywhere", transform=axes.transAxes, ha="center", fontsize=8, color="white")
    return figure


def clipped_scale(values: Tensor) -> Scale:
    """The scale of a map without its strongest hundredth, unless nothing else is there."""
    finite = values[values.isfinite()].abs()
    if not finite.numel():
        return Scale(0.0, 0.0, False)
    # Of millions of values `quantile` would refuse.
    ordered = finite.sort().values
    reach = float(ordered[min(len(ordered) - 1, int(SHOWN * len(ordered)))]) or float(ordered[-1])
    whole = scale_of(values)
    return Scale(-reach if whole.is_signed else 0.0, reach, whole.is_signed)
