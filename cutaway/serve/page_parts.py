"""The parts of the page as HTML: functions of what is shown. Every text that comes from a file is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from cutaway import heatmaps
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.preprocessing.views import view
from cutaway.serve.answers import data_uri
from cutaway.serve.classifier import Classifier, Prediction

_HEAT_SIDE = 320
_SMALL_PICTURE = 160


def header(classifier: Classifier) -> str:
    """What this page is, in one line."""
    metadata = classifier.metadata
    classes = _counted(len(metadata.classes), "class", "classes")
    looked = " and shows where it looked" if metadata.explains else ""
    return (
        '<h1 class="cw-title">What is in this picture?</h1>'
        f'<p class="cw-lead"><strong>{escape(metadata.network)}</strong> answers with one of {classes}{looked}.</p>'
    )


def hint() -> str:
    """Below the picture."""
    return (
        '<p class="cw-note">JPEG, PNG, WebP, BMP, TIFF or GIF. It goes to this server and nowhere else, '
        "and is deleted there within two hours.</p>"
    )


def how_to_read(classifier: Classifier) -> str:
    """Beside the heat-map."""
    metadata = classifier.metadata
    return (
        '<p class="cw-note">Bright is where the network found what speaks for the class '
        f"({escape(metadata.title)} at layer <code>{escape(metadata.target_layer or '')}</code>). "
        "Choose another class to see what would speak for it. The map explains the network, right or wrong.</p>"
    )


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
    normalised = heatmaps.normalise(prediction.heatmap, faint=prediction.heatmap_faint)
    height, width = below.shape[:2]
    scale = _HEAT_SIDE / max(height, width)
    heat = heatmaps.resize(normalised, max(1, round(height * scale)), max(1, round(width * scale)))
    name = escape(prediction.explained.label)
    says = (
        f'What speaks for <strong id="explained-class">{name}</strong> ({_percent(prediction.explained.probability)}).'
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
    made_from = "" if same else f", from your {_size(*image.shape[:2])}"
    runs_on = {"cpu": "the CPU", "cuda": "the GPU"}[device]
    return (
        '<figure class="cw-figure cw-seen">'
        f'<img class="cw-pixelated" src="{data_uri(prediction.seen)}" alt="The picture as the network saw it" '
        f'style="aspect-ratio: {width} / {height}">'
        "<figcaption><strong>What the network saw</strong><br>"
        f"{_size(height, width)} pixels in {colors}{made_from}."
        f'<br><span class="cw-note">Answered in {_milliseconds(prediction.milliseconds)} on {runs_on}.</span>'
        "</figcaption></figure>"
    )


def facts(classifier: Classifier) -> str:
    """Classes, provenance and verification, as a list of terms."""
    metadata = classifier.metadata
    preprocessing = metadata.preprocessing
    size = _size(*preprocessing.size)
    resize = {
        "stretch": f"resized to {size}",
        "shorter": f"shorter side to {preprocessing.resize_to}, centre {size}",
        "pad": f"fitted into {size}, grey around",
    }[preprocessing.resize]
    color = {"rgb": "colour", "grey": "grey", "grey3": "grey in three channels"}[preprocessing.color]
    terms = [
        ("Network", escape(metadata.network)),
        ("Classes", ", ".join(escape(name) for name in metadata.classes)),
        ("Input", f"{resize}, {color}, {preprocessing.interpolation}"),
        (
            "Heat-map",
            f"{escape(metadata.title)} at {escape(metadata.target_layer or '')}" if metadata.explains else "none",
        ),
        ("Metrics", _metrics(metadata.metrics)),
        *([("Calibrated", f"temperature {metadata.temperature:.3g}")] if metadata.temperature is not None else []),
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


def _size(height: int, width: int) -> str:
    """Width times height, as people say it, never broken over two lines."""
    return f"{width}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{height}"


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
