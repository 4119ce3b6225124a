"""`cutaway predict`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.pictures import picture_files
from cutaway.cli.terminal import as_percent, bars, say_json, say_table

_AT_A_TIME = 16


@dataclass(frozen=True)
class PredictOptions:
    """Classify pictures with an exported file; needs no PyTorch."""

    model: tyro.conf.Positional[Path]
    """An ONNX file that cutaway export made."""
    pictures: tyro.conf.Positional[list[str]]
    """Files, folders and patterns."""
    top_k: int = 3
    """Classes to name for each picture."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ONNX Runtime computes."""
    json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""
    csv: bool = False
    """Print CSV, a line a picture."""


def run_predict(arguments: Sequence[str]) -> None:
    """Prints the top classes of each picture."""
    options = parse(PredictOptions, "predict", arguments)
    from cutaway import images
    from cutaway.serve.classifier import Classifier

    classifier = Classifier(options.model, provider=options.provider)
    files = picture_files(options.pictures)
    predictions = []
    for at in bars(range(0, len(files), _AT_A_TIME), "classifying"):
        decoded = [images.decode(file) for file in files[at : at + _AT_A_TIME]]
        predictions += classifier(decoded, top_k=options.top_k, explain=False)
    if options.json:
        say_json(
            [
                {"picture": str(file), "top": [asdict(score) for score in prediction.top]}
                for file, prediction in zip(files, predictions, strict=True)
            ]
        )
    elif options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["picture", "label", "probability"])
        for file, prediction in zip(files, predictions, strict=True):
            writer.writerow([_cell(str(file)), _cell(prediction.top[0].label), prediction.top[0].probability])
    else:
        say_table(
            ["picture", "label", "probability", "then"],
            [
                [
                    str(file),
                    prediction.top[0].label,
                    as_percent(prediction.top[0].probability),
                    ", ".join(f"{score.label} {as_percent(score.probability)}" for score in prediction.top[1:]),
                ]
                for file, prediction in zip(files, predictions, strict=True)
            ],
        )


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
