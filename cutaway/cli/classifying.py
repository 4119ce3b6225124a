"""An ONNX file that is to classify pictures, with what a person says of it where another tool made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cutaway.cli import complain
from cutaway.cli.model_facts import classes_named, preprocessing_named

if TYPE_CHECKING:
    from cutaway.serve.classifier import Classifier
    from cutaway.serve.micro_batches import MicroBatching


@dataclass(frozen=True)
class ClassifierOptions:
    """How the file is run, and what it is where another tool made it."""

    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ONNX Runtime computes."""
    classes: str | None = None
    """Of another tool's file: a file with a label a line, or a,b,c in the order of its outputs."""
    preprocessing: str | None = None
    """Of another tool's file: imagenet, or a JSON or YAML file with size, mean, std and so on."""
    scores: Literal["auto", "logits", "probabilities"] = "auto"
    """Of another tool's file: what its outputs are."""


Classifying = Annotated[ClassifierOptions, tyro.conf.OmitArgPrefixes]


def load_classifier(model: Path, options: ClassifierOptions, micro_batching: MicroBatching | None = None) -> Classifier:
    """The classifier in a file; says so where it does not run where it was meant to.

    Raises:
        CutawayError: The file cannot be used, or not with what is said of it.
    """
    from cutaway.serve.classifier import Classifier

    classifier = Classifier(
        model,
        provider=options.provider,
        classes=None if options.classes is None else classes_named(options.classes),
        preprocessing=None if options.preprocessing is None else preprocessing_named(options.preprocessing),
        scores=options.scores,
        micro_batching=micro_batching,
    )
    if classifier.fell_back:
        complain(
            "ONNX Runtime has CUDA and could not load it, so this runs on the CPU.", "--provider cpu says nothing."
        )
    return classifier
