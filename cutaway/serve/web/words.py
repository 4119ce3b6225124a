"""What the page says of the network, as HTML; every text that comes from a file is escaped.

The sentences are the served page's. They stand here once more because that page needs Gradio, and this one does not.
"""

from __future__ import annotations

from html import escape

from cutaway.serve.input_words import input_in_words
from cutaway.serve.metadata import Metadata


def header(metadata: Metadata) -> str:
    """What this page is, in one line."""
    count = len(metadata.classes)
    looked = " and shows where it looked" if metadata.explains else ""
    return (
        '<h1 class="cw-title">What is in this picture?</h1>'
        f'<p class="cw-lead"><strong>{escape(metadata.network)}</strong> answers with one of {count} '
        f"{'class' if count == 1 else 'classes'}{looked}.</p>"
    )


def how_to_read(metadata: Metadata) -> str:
    """Beside the heat-map."""
    return (
        '<p class="cw-note">Bright is where the network found what speaks for the class '
        f"({escape(metadata.title)} at layer <code>{escape(metadata.target_layer or '')}</code>). "
        "Choose another class to see what would speak for it. The map explains the network, right or wrong.</p>"
    )


def facts(metadata: Metadata, file_name: str, runtime_version: str) -> str:
    """Classes, provenance and verification, as a list of terms."""
    verification = metadata.verification
    limits = ", ".join(f"{_spaced(name)} {limit:.3g}" for name, limit in verification.thresholds.items())
    versions = ", ".join(f"{escape(name)} {escape(version)}" for name, version in metadata.versions.items())
    explained = f"{escape(metadata.title)} at <code>{escape(metadata.target_layer or '')}</code>"
    terms = [
        ("Network", escape(metadata.network)),
        ("Classes", ", ".join(escape(name) for name in metadata.classes)),
        ("Input", input_in_words(metadata.preprocessing)),
        ("Heat-map", explained if metadata.explains else "none"),
        ("Computed in", escape(metadata.precision)),
        *([("Calibrated", f"temperature {metadata.temperature:.3g}")] if metadata.temperature is not None else []),
        ("Metrics", _metrics(metadata.metrics)),
        ("Verified", f"{escape(verification.verdict)}: {escape(verification.data)}"),
        *([("Limits", limits)] if limits else []),
        ("File", f"<code>{escape(file_name)}</code>"),
        ("Bundle", f"<code>{escape(metadata.bundle)}</code>" if metadata.bundle else "none"),
        ("Runs on", f"your browser, by ONNX Runtime Web {escape(runtime_version)}"),
        ("Made with", versions or "unknown"),
    ]
    return '<dl class="cw-facts">' + "".join(f"<dt>{term}</dt><dd>{said}</dd>" for term, said in terms) + "</dl>"


def _metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{_spaced(name)} {value:.4g}" for name, value in metrics.items()) or "none"


def _spaced(name: str) -> str:
    return escape(name.replace("_", " "))
