"""From a bundle to the browser: the ONNX export, the classifier that runs the file, the HTTP API and the page.

Names are looked up when they are first used: serving needs no PyTorch, and exporting needs no web server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutaway.serve.api import create_app
    from cutaway.serve.classifier import Classifier, Prediction, Score
    from cutaway.serve.client import Client
    from cutaway.serve.examples import Example, examples_of
    from cutaway.serve.export import ExportResult, export_module, verify_file
    from cutaway.serve.metadata import Metadata
    from cutaway.serve.models import Loaded, Served

__all__ = [
    "Classifier",
    "Client",
    "Example",
    "ExportResult",
    "Loaded",
    "Metadata",
    "Prediction",
    "Score",
    "Served",
    "create_app",
    "examples_of",
    "export_module",
    "verify_file",
]

_HOMES = {
    "Classifier": "cutaway.serve.classifier",
    "Client": "cutaway.serve.client",
    "Example": "cutaway.serve.examples",
    "ExportResult": "cutaway.serve.export",
    "Loaded": "cutaway.serve.models",
    "Metadata": "cutaway.serve.metadata",
    "Prediction": "cutaway.serve.classifier",
    "Score": "cutaway.serve.classifier",
    "Served": "cutaway.serve.models",
    "create_app": "cutaway.serve.api",
    "examples_of": "cutaway.serve.examples",
    "export_module": "cutaway.serve.export",
    "verify_file": "cutaway.serve.export",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
