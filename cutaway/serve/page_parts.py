"""The parts of the page as HTML: functions of what is shown. Every text that comes from a file is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from cutaway import heatmaps
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.serve.answers import data_uri
from cutaway.serve.classifier import Classifier, Prediction
from cutaway.serve.views import view

_HEAT_SIDE = 320
_SMALL_PICTURE = 160


def header(classifier: Classifier) -> str:
    """What this page is, in one line."""
    metadata = classifier.metadata
    does = "says what it sees in a picture" + (", and where it looked" if metadata.explains else "")
    return (
        f'<h1 class="cw-title">{escape(metadata.network)}</h1>'
        f'<p class="cw-lead">A network that {does}. It knows {_counted(len(metadata.classes), "class", "classes")}.</p>'
    )


def hint() -> str:
    """Below the picture, before there is one."""
    return (
        '<p class="cw-note">JPEG, PNG, WebP, BMP, TIFF or GIF. It stays on this server and is deleted within hours.</p>'
    )


def timing(prediction: Prediction, classifier: Classifier) -> str:
    """Below the picture, once it is classified."""
    device = {"cpu": "the CPU", "cuda": "the GPU"}[classifier.device]
    return f'<p class="cw-note">Answered in {prediction.milliseconds:.3g} ms on {device}.</p>'


def no_explanation() -> str:
    """In place of the heat-map, before there is a picture."""
    return '<div class="cw-empty">Where the network looked will be shown here.</div>'


def explanation(prediction: Prediction, image: Pixels, preprocessing: Preprocessing) -> str:
    """The picture under its heat-map, with a slider; `explanation.js` moves it without asking the server.

    Args:
        prediction: With or without a heat-map.
        image: uint8 [H, W, 3], as it was decoded.
        preprocessing: Of the network.
    """
    if prediction.heatmap is None or prediction.explained is None:
        return no_explanation()
    below = view(image, preprocessing)
    normalised = heatmaps.normalise(prediction.heatmap)
    height, width = below.shape[:2]
    scale = _HEAT_SIDE / max(height, width)
    heat = heatmaps.resize(normalised, max(1, round(height * scale)), max(1, round(width * scale)))
    name = escape(prediction.explained.label)
    says = (
        f'Bright is what speaks for <strong id="explained-class">{name}</strong> '
        f"({_percent(prediction.explained.probability)})."
        if normalised.any()
        else f'Nothing in this picture speaks for <strong id="explained-class">{name}</strong> '
        f"({_percent(prediction.explained.probability)})."
    )
    pixelated = " cw-pixelated" if max(height, width) < _SMALL_PICTURE else ""
    return (
        '<figure class="cw-figure">'
        f'<div class="cw-stack" style="aspect-ratio: {width} / {height}; --cw-ratio: {width / height:.5f}">'
        f'<img class="cw-below{pixelated}" src="{data_uri(below)}" alt="The part of the picture that the network saw">'
        f'<img class="cw-heat" src="{data_uri(heatmaps.colorise(heat))}" alt="Heat-map for {name}">'
        "</div>"
        f"<figcaption>{says}</figcaption>"
        '<label class="cw-slider"><span>Heat-map</span>'
        '<input type="range" min="0" max="100" value="55" class="cw-opacity" aria-label="Opacity of the heat-map">'
        '<output class="cw-opacity-value">55%</output></label>'
        "</figure>"
    )


def nothing_seen() -> str:
    """In place of what the model saw, before there is a picture."""
    return ""


def seen(prediction: Prediction, image: Pixels) -> str:
    """The network's input, as large as pixels can be told apart, and what was lost on the way there."""
    height, width, channels = prediction.seen.shape
    colors = "shades of grey" if channels == 1 or _is_grey(prediction.seen) else "colour"
    return (
        '<figure class="cw-figure cw-seen"><div class="cw-seen-row">'
        f'<img class="cw-pixelated" src="{data_uri(prediction.seen)}" alt="The picture as the network saw it" '
        f'style="aspect-ratio: {width} / {height}">'
        "<figcaption><strong>What the network saw</strong><br>"
        f"{width} × {height} pixels in {colors}, of your {image.shape[1]} × {image.shape[0]}.</figcaption>"
        "</div></figure>"
    )


def facts(classifier: Classifier) -> str:
    """Classes, provenance and verification, as a list of terms."""
    metadata = classifier.metadata
    preprocessing = metadata.preprocessing
    resize = (
        f"resized to {preprocessing.size[1]} × {preprocessing.size[0]}"
        if preprocessing.resize == "stretch"
        else f"shorter side to {preprocessing.resize_to}, centre {preprocessing.size[1]} × {preprocessing.size[0]}"
    )
    color = {"rgb": "colour", "grey": "grey", "grey3": "grey in three channels"}[preprocessing.color]
    terms = [
        ("Network", escape(metadata.network)),
        ("Classes", ", ".join(escape(name) for name in metadata.classes)),
        ("Input", f"{resize}, {color}, {preprocessing.interpolation}"),
        (
            "Heat-map",
            f"{escape(metadata.method or '')} at {escape(metadata.target_layer or '')}"
            if metadata.explains
            else "none",
        ),
        ("Metrics", _metrics(metadata.metrics)),
        ("Verified", f"{escape(metadata.verification.verdict)}: {escape(metadata.verification.data)}"),
        ("Bundle", f"<code>{escape(metadata.bundle)}</code>" if metadata.bundle else "none"),
        ("File", f"<code>{escape(classifier.file_name)}</code>"),
        ("Runs on", escape(", ".join(classifier.providers))),
        (
            "Made with",
            ", ".join(f"{escape(name)} {escape(version)}" for name, version in metadata.versions.items()) or "unknown",
        ),
    ]
    return '<dl class="cw-facts">' + "".join(f"<dt>{term}</dt><dd>{said}</dd>" for term, said in terms) + "</dl>"


def unique_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names, told apart by their number where two are the same, since the label is keyed by name."""
    counts = Counter(classes)
    return tuple(name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(classes))


def _metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{escape(name)} {value:.4g}" for name, value in metrics.items()) or "none"


def _percent(probability: float) -> str:
    """A probability that is not 0 never reads 0%, and one that is not 1 never reads 100%."""
    if 0 < probability < 0.001:
        return "less than 0.1%"
    if 0.999 < probability < 1:
        return "more than 99.9%"
    return f"{probability:.1%}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _is_grey(picture: Pixels) -> bool:
    return bool((picture == picture[:, :, :1]).all() and np.ptp(picture, axis=2).max() == 0)
