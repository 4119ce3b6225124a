"""The tab with what layers inside the network returned for the picture, of a file exported with `--layers`."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
import numpy.typing as npt

from cutaway.errors import CutawayError
from cutaway.heatmaps import color_table, signed_color_table
from cutaway.images import decode
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.answers import data_uri
from cutaway.serve.input_words import size
from cutaway.serve.metadata import Feature
from cutaway.serve.page.asking import Asking, failure, toast
from cutaway.serve.page.words import counted
from cutaway.serve.page_mount import guarded

_MOST_CHANNELS = 64
_MOST_VALUES = 4096


def feature_maps_tab(asking: Asking, tab: gr.Tab, picture: gr.Image) -> None:
    """Creates the tab's components; called inside it.

    Args:
        asking: Of a classifier whose file gives feature maps.
        tab: The tab, which asks for the maps when it is opened.
        picture: Of the tab for one picture.
    """
    layers = [feature.layer for feature in asking.classifier.metadata.features]
    layer = guarded(gr.Dropdown)(choices=layers, value=layers[0], label="Layer", elem_id="feature-layer")
    maps = gr.HTML(no_picture(), elem_id="feature-maps")

    async def show(path: Path | None, name: str | None) -> str:
        if path is None or name is None:
            return no_picture()
        try:
            return await asking.in_turn(_answer, asking, path, name)
        except CutawayError as error:
            toast(error)
            return failure(error)

    for trigger in (tab.select, layer.change):
        trigger(
            show,
            inputs=[picture, layer],
            outputs=[maps],
            concurrency_limit=None,
            show_progress="minimal",
            api_visibility="private",
            trigger_mode="always_last",
        )


def no_picture() -> str:
    """In place of the maps, before there is a picture."""
    return '<div class="cw-empty">Choose a picture under Classify, and what the layers make of it is shown here.</div>'


def maps_of(values: npt.NDArray[np.float32], feature: Feature) -> str:
    """What a layer returned for one picture, as HTML.

    Args:
        values: float32 [C, h, w] of maps; of any shape as it is.
        feature: What the file says of it.
    """
    scale = Scale.of(values)
    if feature.layout != "maps":
        return _as_it_is(values, feature, scale)
    order = np.argsort(-np.abs(values).mean((1, 2)), kind="stable")[:_MOST_CHANNELS]
    tiles = "".join(
        f'<figure><img class="cw-pixelated" src="{data_uri(scale.painted(values[channel]))}" '
        f'alt="Map of channel {channel}"><figcaption>{channel}</figcaption></figure>'
        for channel in order
    )
    num, height, width = values.shape
    shown = f", of which these {len(order)} are the strongest" if len(order) < num else ""
    return (
        f'<p class="cw-note">{counted(num, "map", "maps")} of {size(height, width)}{shown}, by their channels, the '
        f'strongest first. On one scale: {scale.in_words()}.</p><div class="cw-tiles">{tiles}</div>'
    )


@dataclass(frozen=True)
class Scale:
    """Which colours stand for which values.

    Attributes:
        low: The dark end, 0; or the blue one where there are negative values.
        high: The bright end, or the red one.
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Scale:
        """From zero up where no value is negative, else the same reach on both sides."""
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        return cls(0.0, high) if low >= 0 else cls(-max(-low, high), max(-low, high))

    def in_words(self) -> str:
        """What the ends of the colours stand for."""
        if self.low < 0:
            return f"blue is {self.low:.3g}, white is 0, red is {self.high:.3g}"
        return f"dark is 0, bright is {self.high:.3g}"

    def painted(self, values: npt.NDArray[np.float32]) -> Pixels:
        """Values [h, w] as colours: uint8 [h, w, 3]."""
        table = signed_color_table() if self.low < 0 else color_table()
        span = self.high - self.low
        shares = (values - self.low) / span if span > 0 else np.zeros(values.shape)
        colors: Pixels = table[np.rint(np.clip(shares, 0, 1) * 255).astype(np.intp)]
        return colors


def _as_it_is(values: npt.NDArray[np.float32], feature: Feature, scale: Scale) -> str:
    """Values that are no map of the picture: a strip of them, in their order."""
    flat = values.reshape(-1)[:_MOST_VALUES]
    shape = " × ".join(map(str, feature.shape))
    shown = f", of which these are the first {len(flat)}" if len(flat) < values.size else ""
    return (
        f'<p class="cw-note">{counted(values.size, "value", "values")} ({shape}), no map of the picture{shown}, in '
        f"their order: {scale.in_words()}.</p>"
        f'<img class="cw-strip cw-pixelated" src="{data_uri(scale.painted(flat[None, :]))}" '
        f'alt="Values of layer {escape(feature.layer)}">'
    )


def _answer(asking: Asking, path: Path, layer: str) -> str:
    classifier = asking.classifier
    feature = next(feature for feature in classifier.metadata.features if feature.layer == layer)
    image = decode(path, limits=asking.limits)
    (prediction,) = classifier([image], top_k=1, explain=False, features=True)
    return maps_of(prediction.features[layer], feature)
