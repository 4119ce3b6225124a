"""`cutaway predict`."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.classifying import ClassifierOptions, Classifying, load_classifier
from cutaway.cli.pictures import Decoded, decoded, picture_files, refuse_broken
from cutaway.cli.remote import open_client, remote_answers
from cutaway.cli.terminal import as_percent, formula_safe, say_json, say_table
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.serve.classifier import Classifier

_AT_A_TIME = 16


@dataclass(frozen=True)
class PredictOptions:
    """Classify pictures with an exported file, or with --server by a server; needs no PyTorch."""

    model: tyro.conf.Positional[Path]
    """An ONNX file that cutaway export made, or with --classes and --preprocessing another tool's. With --server there
    is none, and this is the first of the pictures."""
    pictures: tyro.conf.Positional[list[str]]
    """Files, folders and patterns."""
    top_k: int = 3
    """Classes to name for each picture."""
    json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""
    csv: bool = False
    """Print CSV, a line a picture."""
    server: str | None = None
    """Address of a server that cutaway serve runs, as http://127.0.0.1:7860, which then classifies."""
    api_key_file: Path | None = None
    """File whose first line is a key of that server."""
    server_model: str | None = None
    """Name of the model to ask, where that server has several; by default its first."""
    server_certificates: Path | None = None
    """PEM file of the certificates to trust, where that server's is one's own."""
    classifying: Classifying = field(default_factory=ClassifierOptions)


def run_predict(arguments: Sequence[str]) -> None:
    """Prints the top classes of each picture that can be decoded, and then which cannot."""
    options = parse(PredictOptions, "predict", arguments)
    if options.top_k < 1:
        raise SettingsError(f"--top-k must be at least 1, not {options.top_k}.")
    if options.json and options.csv:
        raise SettingsError("--json and --csv both say how to print.", hint="Give one of them.")
    broken: list[Decoded] = []
    with contextlib.ExitStack() as stack:
        if options.server is None:
            files, answers = _local(options, broken)
        else:
            files, answers = _remote(options, options.server, broken, stack)
        if options.json:
            _show_json(answers, broken)
        elif options.csv:
            _show_csv(answers)
        else:
            _show_table(answers)
    refuse_broken(broken, len(files))


class _Score(Protocol):
    """A class and its probability, of the classifier or of a server."""

    @property
    def index(self) -> int: ...
    @property
    def label(self) -> str: ...
    @property
    def probability(self) -> float: ...


@dataclass(frozen=True)
class _Answer:
    """What is printed of a prediction: no pixels, no heat-map."""

    file: Path
    index: int
    top: Sequence[_Score]


def _local(options: PredictOptions, broken: list[Decoded]) -> tuple[list[Path], Iterator[_Answer]]:
    of_a_server = {
        "--api-key-file": options.api_key_file,
        "--server-model": options.server_model,
        "--server-certificates": options.server_certificates,
    }
    for name, value in of_a_server.items():
        if value is not None:
            raise SettingsError(f"{name} is for --server, and no server is named.")
    if not options.pictures:
        raise SettingsError("There is no picture to classify.", hint="Name files, folders or patterns after the model.")
    classifier = load_classifier(options.model, options.classifying)
    files = picture_files(options.pictures)
    return files, _answers(classifier, files, options.top_k, broken)


def _remote(
    options: PredictOptions, url: str, broken: list[Decoded], stack: contextlib.ExitStack
) -> tuple[list[Path], Iterator[_Answer]]:
    if options.classifying != ClassifierOptions():
        raise SettingsError(
            "--provider, --classes, --preprocessing and --scores are the server's business.",
            hint="Give them to cutaway serve.",
        )
    if options.model.suffix.lower() == ".onnx":
        raise SettingsError(
            f"With --server there is no model to name, and {options.model} is no picture.", hint="Leave it out."
        )
    files = picture_files([str(options.model), *options.pictures])
    client = stack.enter_context(open_client(url, options.api_key_file, options.server_certificates))
    found = remote_answers(client, files, options.top_k, broken, at_a_time=_AT_A_TIME, model=options.server_model)
    return files, (_Answer(files[index], index, answer.top) for index, answer in found)


def _answers(classifier: Classifier, files: Sequence[Path], top_k: int, broken: list[Decoded]) -> Iterator[_Answer]:
    """Classifies as it goes, and puts what cannot be decoded among `broken`."""
    for chunk in decoded(files, "classifying", at_a_time=_AT_A_TIME):
        broken += [found for found in chunk if found.error is not None]
        good = [(found, found.pixels) for found in chunk if found.pixels is not None]
        predictions = classifier([pixels for _, pixels in good], top_k=top_k, explain=False)
        for (found, _), prediction in zip(good, predictions, strict=True):
            yield _Answer(found.file, found.index, prediction.top)


def _show_json(answers: Iterator[_Answer], broken: Sequence[Decoded]) -> None:
    entries: dict[int, dict[str, object]] = {}
    for answer in answers:
        entries[answer.index] = {"picture": str(answer.file), "top": [_described(score) for score in answer.top]}
    for found in broken:
        entries[found.index] = {"picture": str(found.file), "error": str(found.error)}
    say_json([entries[index] for index in sorted(entries)])


def _described(score: _Score) -> dict[str, object]:
    return {"index": score.index, "label": score.label, "probability": score.probability}


def _show_csv(answers: Iterator[_Answer]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["picture", "label", "probability"])
    for answer in answers:
        writer.writerow([formula_safe(str(answer.file)), formula_safe(answer.top[0].label), answer.top[0].probability])


def _show_table(answers: Iterator[_Answer]) -> None:
    rows = [
        [
            str(answer.file),
            answer.top[0].label,
            as_percent(answer.top[0].probability),
            ", ".join(f"{score.label} {as_percent(score.probability)}" for score in answer.top[1:]),
        ]
        for answer in answers
    ]
    if rows:
        say_table(["picture", "label", "probability", "then"], rows)
