"""Sheets of pictures with a few words each: confusions, mistakes with their maps, answers that flipped."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cutaway.heatmaps import is_empty, overlay
from cutaway.inspect.canvas import INK, fonts, grid, legible, new_figure, shortened
from cutaway.inspect.mistakes import ConfusionExamples, Mistake
from cutaway.inspect.tiles import fitted
from cutaway.preprocessing.spec import Pixels

_SIDE = 168
_LONGEST_NAME = 24
_LETTERS_AN_INCH = 12


@dataclass(frozen=True, eq=False)
class Tile:
    """Pictures side by side, with lines above them.

    Attributes:
        pictures: uint8 [h, w, 1 or 3] each.
        lines: What is said of them.
    """

    pictures: tuple[Pixels, ...]
    lines: tuple[str, ...]


def draw_mistakes(mistakes: Sequence[Mistake], classes: Sequence[str], *, title: str) -> Figure:
    """Each mistake as it is, with the map of the class that it was taken for, and with that of its own class."""
    tiles = []
    # Names come last in a line: one written from the right would draw what follows it to its left.
    for mistake in mistakes:
        truth, wrong = (class_text(classes, index) for index in (mistake.truth, mistake.prediction))
        lines = [
            f"{mistake.probability:.1%} taken for {wrong}",
            f"{mistake.truth_probability:.1%} is {truth}",
        ]
        pictures = [_sized(mistake.picture)]
        for label, found in ((wrong, mistake.prediction_map), (truth, mistake.truth_map)):
            if found is None:
                continue
            if is_empty(found):
                lines.append(f"nothing in its map speaks for {label}")
            pictures.append(overlay(pictures[0], found))
        tiles.append(Tile(tuple(pictures), tuple(lines)))
    has_maps = any(len(tile.pictures) > 1 for tile in tiles)
    said = "\nthe picture, what speaks for the wrong class, what speaks for the right one" if has_maps else ""
    return draw_tiles(tiles, title=title + said, columns=3 if has_maps else 6)


def draw_tiles(tiles: Sequence[Tile], *, title: str, columns: int = 6) -> Figure:
    """Tiles in rows, on one sheet."""
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    widest = max((len(tile.pictures) for tile in tiles), default=1)
    most_lines = max((len(tile.lines) for tile in tiles), default=0)
    figure = new_figure(max(4.5, (1.35 * widest + 0.35) * columns), (1.45 + 0.15 * most_lines) * rows + 0.6)
    # Wider than the gap between the pictures of a tile.
    figure.set_layout_engine("constrained", w_pad=0.1)
    figure.suptitle(_wrapped(title, figure), fontsize=10, x=0.01, ha="left")
    for axes, number in zip(grid(figure, rows, columns), range(rows * columns), strict=True):
        if number < len(tiles):
            _draw(axes, tiles[number])
        else:
            axes.set_axis_off()
    return figure


def draw_confusions(
    examples: Sequence[ConfusionExamples],
    pictures: Sequence[Sequence[Pixels]],
    classes: Sequence[str],
    *,
    title: str,
) -> Figure:
    """A row for each confusion, with its pictures.

    Args:
        examples: The confusions.
        pictures: For each the pictures of its samples, in their order.
        classes: The names of all classes.
        title: The heading.
    """
    columns = max((len(row) for row in pictures), default=1)
    figure = new_figure(2.6 + 1.35 * columns, 1.55 * max(1, len(examples)) + 0.5)
    figure.suptitle(_wrapped(title, figure), fontsize=10, x=0.01, ha="left")
    axes = grid(figure, max(1, len(examples)), columns + 1)
    for part in axes:
        part.set_axis_off()
    place = {name: index for index, name in enumerate(classes)}
    for row, (example, shown) in enumerate(zip(examples, pictures, strict=True)):
        confusion = example.confusion
        truth, wrong = (class_text(classes, place[name]) for name in (confusion.truth, confusion.prediction))
        said = f"{truth}\ntaken for\n{wrong}\n{confusion.times:,} of {confusion.support:,}"
        axes[row * (columns + 1)].text(0, 0.5, said, fontsize=8, va="center", family=list(fonts()))
        for column, (picture, share) in enumerate(zip(shown, example.probabilities, strict=True), start=1):
            _draw(axes[row * (columns + 1) + column], Tile((picture,), (f"{share:.1%}",)))
    return figure


def class_text(classes: Sequence[str], index: int) -> str:
    """A class's name as a figure can show it."""
    return shortened(legible(classes[index], f"class {index}"), _LONGEST_NAME)


def _wrapped(title: str, figure: Figure) -> str:
    """The title in lines that a sheet has room for; constrained layout makes no picture wider for its sake."""
    letters = int(figure.get_figwidth() * _LETTERS_AN_INCH)
    return "\n".join(textwrap.fill(line, letters) for line in title.splitlines())


def _draw(axes: Axes, tile: Tile) -> None:
    pictures = [_sized(picture) for picture in tile.pictures]
    height = max(picture.shape[0] for picture in pictures)
    gap = np.full((height, 6, 3), 255, dtype=np.uint8)
    parts: list[Pixels] = []
    for picture in pictures:
        above = (height - picture.shape[0]) // 2
        room = ((above, height - picture.shape[0] - above), (0, 0), (0, 0))
        parts += [gap, np.pad(picture, room, constant_values=255)]
    axes.imshow(np.concatenate(parts[1:], axis=1), interpolation="nearest")
    axes.set_title("\n".join(tile.lines), fontsize=7, loc="left", color=INK, pad=3, family=list(fonts()))
    axes.set_axis_off()


def _sized(picture: Pixels) -> Pixels:
    return fitted(picture, _SIDE)
