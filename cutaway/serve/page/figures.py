"""The figures of the tab for one picture as HTML. Every text that comes from a file is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cutaway import heatmaps
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.preprocessing.views import view
from cutaway.serve.answers import data_uri
from cutaway.serve.classifier import Prediction, Score
from cutaway.serve.input_words import size
from cutaway.serve.metadata import Metadata
from cutaway.serve.page.words import DEVICES, class_name, duration, percent

_HEAT_SIDE = 320
_SMALL_PICTURE = 160
_IDS = ("explained-class", "compared-class")


def hint() -> str:
    """Below the picture."""
    return (
        '<p class="cw-note">JPEG, PNG, WebP, BMP, TIFF or GIF. It goes to this server and nowhere else, '
        "and is deleted there within two hours.</p>"
    )


def no_classes() -> str:
    """In place of the classes, before there is a picture."""
    return _classes('<div class="cw-empty">The answer will be shown here.</div>')


def most_probable(prediction: Prediction, names: Sequence[str]) -> str:
    """The first classes with their probabilities as bars, the most probable one large.

    Args:
        prediction: Of the picture.
        names: Of all classes, no two alike.
    """
    rows = "".join(
        f'<li><span class="cw-label">{class_name(names[score.index])}</span>'
        f'<span class="cw-probability">{percent(score.probability)}</span>'
        f'<span class="cw-track"><span class="cw-bar" style="--cw-share: {score.probability:.4f}"></span></span></li>'
        for score in prediction.top
    )
    return _classes(f'<ol class="cw-classes" aria-labelledby="label-title">{rows}</ol>')


def _classes(body: str) -> str:
    return f'<h2 class="cw-subheading" id="label-title">Most probable classes</h2>{body}'


def how_to_read(metadata: Metadata) -> str:
    """Above the heat-map."""
    return (
        '<h2 class="cw-heading">Where the network looked</h2>'
        '<p class="cw-note">Bright is where it found what speaks for the class '
        f"({escape(metadata.title)} at layer <code>{escape(metadata.target_layer or '')}</code>). "
        "The map explains the network, right or wrong.</p>"
    )


def no_explanation() -> str:
    """In place of the heat-map, before there is a picture."""
    return '<div class="cw-empty">Where the network looked will be shown here.</div>'


def explanation(predictions: Sequence[Prediction], image: Pixels, preprocessing: Preprocessing) -> str:
    """The picture under the heat-map of one class or two, each as bright as it can be, with a slider.

    `explanation.js` moves the slider without asking the server.

    Args:
        predictions: One, or two of the same picture that explain different classes; with or without heat-maps.
        image: uint8 [H, W, 3], as it was decoded.
        preprocessing: Of the network.
    """
    explained = [(each, each.heatmap, each.explained) for each in predictions]
    maps = [(heat, score, each.heatmap_faint) for each, heat, score in explained if heat is not None and score]
    if not maps:
        return no_explanation()
    below = view(image, preprocessing)
    shown = [
        _figure(below, heatmaps.normalise(heat, faint=faint), score, name)
        for (heat, score, faint), name in zip(maps, _IDS, strict=False)
    ]
    return (
        f'<div class="cw-maps">{"".join(shown)}</div>{_strengths(predictions)}'
        '<label class="cw-slider"><span>Heat-map</span>'
        '<input type="range" min="0" max="100" value="55" class="cw-opacity" aria-label="Opacity of the heat-map">'
        '<output class="cw-opacity-value">55%</output></label>'
    )


def _strengths(predictions: Sequence[Prediction]) -> str:
    """How much stronger one map is than the other, since each is shown as bright as it can be; nothing where one is."""
    found = [
        (float(each.heatmap.max()), class_name(each.explained.label))
        for each in predictions
        if each.heatmap is not None
        and each.explained is not None
        and heatmaps.normalise(each.heatmap, faint=each.heatmap_faint).any()
    ]
    if len(found) < 2:
        return ""
    (weak, weaker), (strong, stronger) = sorted(found, key=lambda each: each[0])
    times = strong / weak
    said = (
        "at their strongest points they are about equal"
        if times < 1.1
        else f"at their strongest points, {stronger} has {times:.3g} times the evidence of {weaker}"
    )
    return f'<p class="cw-note cw-centred">Each map has its own scale: {said}.</p>'


def nothing_seen() -> str:
    """In place of what the model saw, before there is a picture."""
    return ""


def seen(prediction: Prediction, image: Pixels, device: str) -> str:
    """The network's input, as large as pixels can be told apart, what it was made from, and how long the answer took.

    Args:
        prediction: Of the picture.
        image: uint8 [H, W, 3], as it was decoded.
        device: `cpu` or `cuda`.
    """
    height, width, channels = prediction.seen.shape
    colors = "shades of grey" if channels == 1 or not np.ptp(prediction.seen, axis=2).any() else "colour"
    same = image.shape[:2] == (height, width)
    made_from = "" if same else f", from your {size(*image.shape[:2])}"
    return (
        '<figure class="cw-figure cw-seen">'
        f'<img class="cw-pixelated" src="{data_uri(prediction.seen)}" alt="The picture as the network saw it" '
        f'style="aspect-ratio: {width} / {height}">'
        "<figcaption><strong>What the network saw</strong><br>"
        f"{size(height, width)} pixels in {colors}{made_from}."
        f'<br><span class="cw-note">Answered in {duration(prediction.milliseconds)} on {DEVICES[device]}.</span>'
        "</figcaption></figure>"
    )


def _figure(below: Pixels, heatmap: heatmaps.Heatmap, score: Score, element_id: str) -> str:
    """One picture under one heat-map, whose values lie between 0 and 1."""
    height, width = below.shape[:2]
    scale = _HEAT_SIDE / max(height, width)
    heat = heatmaps.resize(heatmap, max(1, round(height * scale)), max(1, round(width * scale)))
    said = "What speaks" if heatmap.any() else "Nothing in this picture speaks"
    pixelated = " cw-pixelated" if max(height, width) < _SMALL_PICTURE else ""
    return (
        '<figure class="cw-figure">'
        f'<div class="cw-stack" style="aspect-ratio: {width} / {height}; --cw-ratio: {width / height:.5f}">'
        f'<img class="cw-below{pixelated}" src="{data_uri(below)}" alt="The part of the picture that the network saw">'
        f'<img class="cw-heat" src="{data_uri(heatmaps.colorise(heat))}" alt="Heat-map for {escape(score.label)}">'
        "</div>"
        f'<figcaption>{said} for <strong><bdi id="{element_id}">{escape(score.label)}</bdi></strong> '
        f"({percent(score.probability)}).</figcaption>"
        "</figure>"
    )
