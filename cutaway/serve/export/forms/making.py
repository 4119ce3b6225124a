"""One smaller form of an exported file, measured and judged before it is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cutaway.datasets.split import Split
from cutaway.errors import ExportError, ServingError
from cutaway.preprocessing.spec import Pixels
from cutaway.progress import Track, silent
from cutaway.serve.classifier import Classifier
from cutaway.serve.export.forms.judging import DEFAULT_LIMITS, FormAnswers, FormFigures, Limits, ask, measure, objection
from cutaway.serve.export.forms.shrinking import shrunk
from cutaway.serve.metadata import Metadata, Precision, Verification
from cutaway.serve.sessions import Provider
from cutaway.serve.writing import check_place, whole_or_nothing

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "int8-dynamic")


@dataclass(frozen=True)
class FormResult:
    """A smaller form that was made and accepted.

    Attributes:
        path: The file.
        num_bytes: Its size.
        metadata: What it says about itself.
        figures: Measured against float32.
    """

    path: Path
    num_bytes: int
    metadata: Metadata
    figures: FormFigures


def make_form(
    source: Path | str,
    out: Path | str,
    precision: Precision,
    *,
    validation: Split,
    calibration: Sequence[Pixels] = (),
    limits: Limits = DEFAULT_LIMITS,
    provider: Provider = "cpu",
    track: Track = silent,
) -> FormResult:
    """Makes a smaller form of an exported file, and leaves it only where it is as good.

    Only the network's forward pass gets smaller. The preprocessing, the softmax and the heat-map stay in float; the
    heat-map explains the smaller network.

    Args:
        source: A file in float32 that `cutaway export` made.
        out: The new file.
        precision: fp16, bf16, int8 or int8-dynamic.
        validation: Labelled pictures that it is judged on, all of them, in the order of the file's classes.
        calibration: Pictures of the training split for int8, uint8 [H, W, 1 or 3] each; `calibration_pictures`
            chooses some.
        limits: What it is held to.
        provider: Where both files are run.
        track: Told of every step.

    Raises:
        ExportError: There is no such form, this machine cannot run it, or it is not as good; no file is left.
        ServingError: `source` is no such file.

    Example:
        >>> make_form("model.onnx", "small.onnx", "int8", validation=data.valid,
        ...           calibration=calibration_pictures(data.train, 256))
    """
    source, out = Path(source), Path(out)
    if not len(validation):
        raise ExportError(
            f"{precision} is judged on labelled pictures of the validation split, and there are none.",
            hint="Export it with --precision fp32.",
        )
    check_place(out)
    before = Classifier(source, provider=provider)
    data, metadata = shrunk(
        source.read_bytes(), precision, calibration=calibration, verification=held_to(limits, validation, before)
    )
    with whole_or_nothing(out, data) as temporary:
        form = open_form(temporary, precision, provider)
        figures = measure_form(form, ask(before, validation, track=track), validation, track=track)
        against = objection(figures, limits)
        if against:
            raise ExportError(
                f"The {precision} form is not as good as fp32: {against}.",
                hint="Another --precision may pass: --compare measures them all.",
            )
    return FormResult(out, len(data), metadata, figures)


def open_form(path: Path, precision: Precision, provider: Provider) -> Classifier:
    """Loads and runs a form once.

    Raises:
        ExportError: ONNX Runtime cannot run it here.
    """
    try:
        return Classifier(path, provider=provider)
    except ServingError as error:
        raise _not_here(precision, error) from error


def measure_form(form: Classifier, told: FormAnswers, validation: Split, *, track: Track = silent) -> FormFigures:
    """Runs a form over the split and compares it with what float32 told.

    Raises:
        ExportError: It does not run on every picture.
    """
    try:
        answers = ask(form, validation, told.top.tolist(), track=track)
    except ServingError as error:
        raise _not_here(form.metadata.precision, error) from error
    return measure(told, answers, validation.labels)


def _not_here(precision: Precision, error: ServingError) -> ExportError:
    missing = re.search(r"Could not find an implementation for (\w+)", error.message)
    why = f"ONNX Runtime has no {missing[1]} for it there" if missing else error.message.rstrip(".")
    return ExportError(f"{precision} does not run on this machine: {why}.", hint="Choose another --precision.")


def held_to(limits: Limits, validation: Split, before: Classifier) -> Verification:
    """What the metadata says of how a form was judged."""
    said = before.metadata.verification.data
    return Verification(
        data=f"{len(validation)} labelled {validation.name} pictures against fp32, and fp32 on {said}",
        thresholds=limits.named(explains=before.metadata.explains, features=bool(before.metadata.features)),
    )
