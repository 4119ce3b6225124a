"""What every figure is drawn on: an empty page without matplotlib's global state, its colours, and its letters."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from cutaway.preprocessing.spec import Pixels

INK, SOFT, ACCENT, ALARM = "#1b1d21", "#5d636d", "#2f5fd0", "#b3372c"
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
)


class Page(Figure):
    """A figure whose words are what they say, in fonts that have their letters.

    Most names on it are a stranger's: of layers, classes and files. Between two dollar signs matplotlib would read
    them as formulas, and set or refuse them as such; only the numbers along logarithmic axes are formulas here. What no
    installed font can write becomes a question mark, but for names of ticks, which pass through `plain` before.
    """

    def draw(self, renderer: RendererBase) -> None:
        """Draws it, also into a file."""
        logarithmic = [
            axis for axes in self.axes for axis in (axes.xaxis, axes.yaxis) if axis.get_scale() not in ("linear", "")
        ]
        formulas = {id(text) for axis in logarithmic for text in axis.get_ticklabels(which="both")}
        for text in self.findobj(Text):
            assert isinstance(text, Text)
            if id(text) not in formulas:
                text.set_parse_math(False)
                text.set_text(plain(text.get_text()))
                if text.get_fontfamily() == rcParams["font.family"]:
                    text.set_fontfamily(list(fonts()))
        super().draw(renderer)


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of so many inches."""
    figure = Page(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def grid(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """Axes in rows and columns, row by row."""
    return list(figure.subplots(rows, columns, squeeze=False).flat)


def png(figure: Figure, *, dpi: int = 120) -> bytes:
    """A figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def pixels(figure: Figure, *, dpi: int = 120) -> Pixels:
    """A figure as uint8 [H, W, 3], as TensorBoard takes it."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()  # type: ignore[no-untyped-call]


def legible(text: str, instead: str) -> str:
    """The text where an installed font has all of its characters, or else a stand-in."""
    return text if all(character.isspace() or ord(character) in _characters() for character in text) else instead


def plain(text: str) -> str:
    """The text, with question marks for what no installed font can write where there is such."""
    return legible(text, text.encode("ascii", "replace").decode())


def shortened(text: str, limit: int) -> str:
    """The text with its middle left out where it has more letters than `limit`."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


@cache
def fonts() -> tuple[str, ...]:
    """The installed ones of the fonts that between them write most scripts; matplotlib takes each glyph's first."""
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in _FONTS if name in installed)


@cache
def _characters() -> frozenset[int]:
    paths = {entry.fname for entry in font_manager.fontManager.ttflist if entry.name in fonts()}
    return frozenset(code for path in paths for code in font_manager.get_font(path).get_charmap())
