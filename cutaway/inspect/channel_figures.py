"""Sheets of the pictures that excite channels most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from cutaway.inspect.canvas import SOFT, grid, new_figure, plain
from cutaway.inspect.channels import ChannelActivity
from cutaway.inspect.tiles import fitted
from cutaway.preprocessing.spec import Pixels

_SIDE = 168


def draw_top_pictures(
    found: ChannelActivity, picture: Callable[[int], Pixels], *, channels: Sequence[int] | None = None, limit: int = 8
) -> Figure:
    """A row for each channel: the pictures that excite it most, the strongest first, with the largest value in its map.

    Args:
        found: A layer's channels.
        picture: Gives the picture at a position, uint8 [H, W, 1 or 3].
        channels: Which to draw; the most varied if None.
        limit: How many, where none are given.
    """
    shown = list(channels) if channels is not None else found.most_varied(limit)
    columns = max(1, found.top.shape[1])
    rows = max(1, len(shown))
    figure = new_figure(1.05 * columns + 1.6, 1.3 * rows + 0.6)
    title = f"{found.layer}: what excites {len(shown)} of {found.num_channels} channels most, of {found.num_pictures:,}"
    figure.suptitle(plain(f"{title} pictures"), fontsize=10, x=0.01, ha="left")
    axes = grid(figure, rows, columns + 1)
    for part in axes:
        part.set_axis_off()
    for row, channel in enumerate(shown):
        silent = float(found.silent[channel])
        said = f"channel {channel}" + (f"\nsilent on {silent:.0%}" if silent else "")
        axes[row * (columns + 1)].text(0, 0.5, said, fontsize=8, va="center")
        if silent == 1:
            axes[row * (columns + 1) + 1].text(0, 0.5, "dead: zero on every picture", fontsize=8, va="center")
            continue
        for place, (index, value) in enumerate(
            zip(found.top[channel].tolist(), found.top_values[channel].tolist(), strict=True), start=1
        ):
            part = axes[row * (columns + 1) + place]
            part.imshow(fitted(picture(index), _SIDE), interpolation="nearest")
            part.set_title(f"{value:.3g}", fontsize=7, color=SOFT, pad=2)
    return figure
