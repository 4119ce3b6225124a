"""The tab about the model: what it answers, how well, what it was checked against, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve.classifier import Classifier
from cutaway.serve.input_words import input_in_words
from cutaway.serve.metadata import Metadata, Verification
from cutaway.serve.page.confusion import confusion
from cutaway.serve.page.words import DEVICES, class_name

_MOST_CLASSES = 30
"""More than these are folded away."""


def about(classifier: Classifier) -> str:
    """All that the file says of itself, and where it runs; every text from the file is escaped."""
    metadata = classifier.metadata
    sections = [
        ("What it is", _terms(_what(metadata))),
        ("How well it does", _how_well(metadata)),
        ("How it was checked", _terms(_checked(metadata.verification))),
        ("Where it runs", _terms([("Device", runs_on(classifier)), ("By", _codes(classifier.providers))])),
        ("Where it comes from", _terms(_origin(classifier))),
    ]
    return "".join(
        f'<section class="cw-section"><h2 class="cw-heading">{title}</h2>{content}</section>'
        for title, content in sections
    )


def runs_on(classifier: Classifier) -> str:
    """The device that was loaded, and the one that was meant where that is another."""
    if classifier.fell_back:
        return f"{DEVICES[classifier.device]}. The GPU was meant, and ONNX Runtime could not load it."
    return DEVICES[classifier.device]


def _what(metadata: Metadata) -> list[tuple[str, str]]:
    explained = f"{escape(metadata.title)} at <code>{escape(metadata.target_layer or '')}</code>"
    terms = [
        ("Network", escape(metadata.network)),
        ("Classes", _classes(metadata.classes)),
        ("Input", _input(metadata.preprocessing)),
        ("Heat-map", explained if metadata.explains else "none"),
        ("Computed in", escape(metadata.precision)),
    ]
    if metadata.temperature is not None:
        terms.append(("Calibrated", f"temperature {metadata.temperature:.3g}"))
    if metadata.calibration is not None:
        terms.append(("Ranges", escape(metadata.calibration)))
    if metadata.features:
        terms.append(("Feature maps", _codes(feature.layer for feature in metadata.features)))
    return terms


def _classes(classes: tuple[str, ...]) -> str:
    names = ", ".join(class_name(name) for name in classes)
    if len(classes) <= _MOST_CLASSES:
        return names
    return f"<details><summary>{len(classes)} classes</summary>{names}</details>"


def _input(preprocessing: Preprocessing) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return f"{input_in_words(preprocessing)}, minus {mean} and divided by {std}"


def _how_well(metadata: Metadata) -> str:
    figures = [(escape(name.replace("_", " ")), f"{value:.4g}") for name, value in metadata.metrics.items()]
    if not figures and metadata.confusion_matrix is None:
        return '<p class="cw-note">The file does not say.</p>'
    table = _terms(figures, "cw-numbers") if figures else ""
    matrix = metadata.confusion_matrix
    return table + ("" if matrix is None else confusion(matrix, metadata.classes))


def _checked(verification: Verification) -> list[tuple[str, str]]:
    limits = [f"{escape(name.replace('_', ' '))} {value:.3g}" for name, value in verification.thresholds.items()]
    return [
        ("Verdict", escape(verification.verdict)),
        ("On", escape(verification.data)),
        *([("Limits", ", ".join(limits))] if limits else []),
    ]


def _origin(classifier: Classifier) -> list[tuple[str, str]]:
    metadata = classifier.metadata
    versions = ", ".join(f"{escape(name)} {escape(version)}" for name, version in metadata.versions.items())
    return [
        ("File", f"<code>{escape(classifier.file_name)}</code>"),
        ("Bundle", f"<code>{escape(metadata.bundle)}</code>" if metadata.bundle else "none"),
        ("Made with", versions or "unknown"),
    ]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in names)


def _terms(terms: list[tuple[str, str]], kind: str = "") -> str:
    inside = "".join(f"<dt>{term}</dt><dd>{said}</dd>" for term, said in terms)
    return f'<dl class="cw-facts {kind}">{inside}</dl>'
