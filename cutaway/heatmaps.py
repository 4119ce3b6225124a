"""Drawing heat-maps: scaling them to 0..1, colouring them, and laying them over a picture.

The colours rise evenly in lightness, so what looks twice as bright is about twice as strong, also to the
colour-blind and in a grey print. Rainbow tables such as `jet` draw edges where the map has none.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from cutaway.errors import InspectionError
from cutaway.preprocessing.spec import Pixels

__all__ = ["NEARLY_ZERO", "color_table", "colorise", "is_empty", "normalise", "overlay", "resize", "signed_color_table"]

Heatmap = npt.NDArray[np.float32]

NEARLY_ZERO = 1e-6
"""A map is empty whose strongest value, times the number of its positions, is below this: rounding noise.

A map shares the logits' unit, and where its layer is averaged each position holds but its share of a logit, so a value
on a large map says as much as one that is larger by the number of positions on a map of one position.
"""

# The path of the colours in OKLCh (Ottosson 2020): position, lightness, chroma, hue in degrees. Lightness rises
# linearly; hue turns once from blue through magenta and orange to pale yellow; chroma stays inside sRGB.
_PATH = np.array(
    [
        # position, lightness, chroma, hue
        (0.00, 0.13, 0.045, 275.0),
        (0.20, 0.29, 0.130, 295.0),
        (0.40, 0.45, 0.170, 345.0),
        (0.60, 0.62, 0.190, 388.0),
        (0.80, 0.78, 0.155, 425.0),
        (1.00, 0.95, 0.090, 462.0),
    ]
)


def is_empty(heatmap: npt.NDArray[np.floating]) -> bool:
    """Whether nothing in a raw map [h, w] speaks for the class, or only rounding noise does."""
    return not float(heatmap.max(initial=0)) * heatmap.size >= NEARLY_ZERO


def normalise(heatmap: npt.NDArray[np.floating], *, faint: bool = False) -> Heatmap:
    """Scales a raw map so that its strongest point is 1 and no evidence is 0.

    Negative values become 0. The lowest value is not subtracted: a map that is strong everywhere stays strong
    everywhere, and an empty map (see `is_empty`) stays zero instead of becoming stretched noise.

    Args:
        heatmap: float [h, w], as `grad_cam` or the ONNX file gives it.
        faint: It is known to hold nothing but rounding, and counts as empty.

    Returns:
        float32 [h, w] between 0 and 1.

    Raises:
        InspectionError: Where the map holds infinities or NaN.
    """
    if heatmap.ndim != 2:
        raise ValueError(f"expected a heat-map [h, w], got {list(heatmap.shape)}")
    if not np.isfinite(heatmap).all():
        raise InspectionError(
            "The heat-map holds values that are not finite.", hint="Have the network's weights diverged in training?"
        )
    positive = np.maximum(heatmap.astype(np.float64), 0)
    strongest = positive.max(initial=0.0)
    if faint or is_empty(heatmap):
        return np.zeros(heatmap.shape, np.float32)
    scaled: Heatmap = (positive / strongest).astype(np.float32)
    return scaled


def resize(heatmap: npt.NDArray[np.floating], height: int, width: int) -> Heatmap:
    """Bilinear resize of a map, half-pixel centres, edges repeated, as `F.interpolate(align_corners=False)`.

    Args:
        heatmap: float [h, w].
        height: Rows of the result, in pixels.
        width: Columns of the result, in pixels.

    Returns:
        float32 [height, width].
    """
    top, bottom, down = _neighbours(heatmap.shape[0], height)
    left, right, across = _neighbours(heatmap.shape[1], width)
    values = heatmap.astype(np.float64)
    rows = values[top] * (1 - down)[:, None] + values[bottom] * down[:, None]
    return (rows[:, left] * (1 - across) + rows[:, right] * across).astype(np.float32)


def colorise(heatmap: npt.NDArray[np.floating]) -> Pixels:
    """Colours for values between 0 and 1: dark blue, magenta, orange, pale yellow.

    Args:
        heatmap: float [h, w] between 0 and 1; what lies outside is clipped.

    Returns:
        uint8 [h, w, 3].
    """
    colors: Pixels = color_table()[np.rint(np.clip(heatmap, 0, 1) * 255).astype(np.intp)]
    return colors


def overlay(image: Pixels, heatmap: npt.NDArray[np.floating], *, opacity: float = 0.5, faint: bool = False) -> Pixels:
    """A heat-map laid over the picture it explains.

    Args:
        image: uint8 [H, W, 3] or [H, W, 1].
        heatmap: float [h, w], raw; it is normalised here, then resized to the picture.
        opacity: 0 shows the picture alone, 1 the colours alone.
        faint: As of `normalise`.

    Returns:
        uint8 [H, W, 3].
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie between 0 and 1, not {opacity}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"expected a picture uint8 [H, W, 1 or 3], got {image.dtype} {list(image.shape)}")
    colors = colorise(resize(normalise(heatmap, faint=faint), image.shape[0], image.shape[1]))
    blended = image.astype(np.float32) * np.float32(1 - opacity) + colors.astype(np.float32) * np.float32(opacity)
    return np.rint(blended).astype(np.uint8)


@cache
def color_table() -> Pixels:
    """The 256 colours of `colorise`: uint8 [256, 3]."""
    position = np.linspace(0, 1, 256)
    lightness, chroma, hue = (np.interp(position, _PATH[:, 0], _PATH[:, column]) for column in (1, 2, 3))
    angle = np.deg2rad(hue)
    linear = _oklab_to_linear(np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1))
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table: Pixels = np.rint(srgb * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


@cache
def signed_color_table() -> Pixels:
    """Blue over white to red, evenly lighter towards zero from both ends: uint8 [256, 3]."""
    ends: npt.NDArray[np.float64] = np.array(
        [(33, 84, 164), (110, 160, 215), (247, 247, 247), (228, 130, 102), (165, 21, 38)]
    )
    positions = np.linspace(0, 1, 256)
    channels = [np.interp(positions, np.linspace(0, 1, len(ends)), ends[:, channel]) for channel in range(3)]
    table: Pixels = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    table.setflags(write=False)
    return table


def _oklab_to_linear(oklab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """OKLab [N, 3] -> linear sRGB [N, 3], by the matrices of Ottosson's definition."""
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.291485548]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.707614701],
        ]
    )
    linear: npt.NDArray[np.float64] = ((oklab @ to_lms.T) ** 3) @ to_rgb.T
    return linear


def _neighbours(source: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """For each target position the two source positions around it and the share of the second."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    first = np.floor(centre).astype(np.intp)
    return first, np.minimum(first + 1, source - 1), centre - first
