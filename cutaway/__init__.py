"""Train an image classifier, see inside it, and ship it.

The few names that a notebook needs, each looked up when it is first used: importing this package imports no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutaway.checkpoints import restore
    from cutaway.datasets import Dataset
    from cutaway.errors import CutawayError, Interrupted
    from cutaway.images import decode
    from cutaway.serve import Classifier
    from cutaway.settings import TrainSettings
    from cutaway.train import Callback, train

# Unless this is said before it is imported, ONNX Runtime notes in the home which files it opens on what machine, and
# sends that to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "Classifier",
    "CutawayError",
    "Dataset",
    "Interrupted",
    "TrainSettings",
    "decode",
    "restore",
    "train",
]

_HOMES = {
    "Callback": "cutaway.train",
    "Classifier": "cutaway.serve",
    "CutawayError": "cutaway.errors",
    "Dataset": "cutaway.datasets",
    "Interrupted": "cutaway.errors",
    "TrainSettings": "cutaway.settings",
    "decode": "cutaway.images",
    "restore": "cutaway.checkpoints",
    "train": "cutaway.train",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
