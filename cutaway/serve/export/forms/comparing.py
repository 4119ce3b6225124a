"""All forms of an exported file side by side: size, accuracy, heat-maps and latency, and which is the best."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cutaway.datasets.split import Split
from cutaway.errors import ExportError
from cutaway.preprocessing.spec import Pixels
from cutaway.progress import Track, silent
from cutaway.serve.classifier import Classifier
from cutaway.serve.export.forms.judging import DEFAULT_LIMITS, FormFigures, Limits, ask, measure, objection
from cutaway.serve.export.forms.making import PRECISIONS, held_to, measure_form, open_form
from cutaway.serve.export.forms.shrinking import shrunk
from cutaway.serve.export.forms.timing import BATCH_SIZES, Latencies, time_side_by_side
from cutaway.serve.metadata import Precision
from cutaway.serve.sessions import Provider

# Times within this share of each other count as equal.
_EQUAL_TIME = 0.05


@dataclass(frozen=True)
class Form:
    """One form of a file.

    Attributes:
        precision: What the network is computed in.
        num_bytes: Of the file, with the second file's where it needs one; None where there is none.
        figures: Against float32; None where it does not run.
        milliseconds: Batch size to the median time of a run; empty where it does not run.
        against: Why it is not to be used, in words; empty where it passes.
    """

    precision: Precision
    num_bytes: int | None = None
    figures: FormFigures | None = None
    milliseconds: Mapping[int, float] = field(default_factory=dict)
    against: str = ""

    @property
    def passes(self) -> bool:
        """Whether it runs here and keeps its limits."""
        return not self.against


@dataclass(frozen=True)
class FormComparison:
    """All forms of a file.

    Attributes:
        forms: fp32 first.
        best: Of those that pass the one with the shortest time for one picture; of those within 5 % of it, the
            smallest.
        provider: `cpu` or `cuda`, where they were run.
        latencies: As measured.
        limits: What they were held to.
    """

    forms: tuple[Form, ...]
    best: Precision
    provider: str
    latencies: Latencies
    limits: Limits


def compare_forms(
    source: Path | str,
    *,
    validation: Split,
    calibration: Sequence[Pixels],
    limits: Limits = DEFAULT_LIMITS,
    provider: Provider = "cpu",
    track: Track = silent,
) -> FormComparison:
    """Makes every form of an exported file in a private folder, measures all, and keeps none.

    Args:
        source: A file in float32 that `cutaway export` made.
        validation: As of `make_form`.
        calibration: As of `make_form`.
        limits: As of `make_form`.
        provider: As of `make_form`.
        track: Told of every step.

    Raises:
        ExportError: There are no pictures to measure on.
        ServingError: `source` is no such file.
    """
    source = Path(source)
    if not len(validation):
        raise ExportError("Forms are compared on labelled pictures of the validation split, and there are none.")
    before = Classifier(source, provider=provider)
    told = ask(before, validation, track=track)
    data = source.read_bytes()
    verification = held_to(limits, validation, before)
    external = before.metadata.external_data
    num_bytes = len(data) + (0 if external is None else external.num_bytes)
    forms = [Form("fp32", num_bytes, measure(told, told, validation.labels))]
    classifiers: dict[str, Classifier] = {"fp32": before}
    with tempfile.TemporaryDirectory(prefix="cutaway-forms-") as folder:
        for precision in PRECISIONS[1:]:
            path = Path(folder) / f"{precision}.onnx"
            try:
                made, _ = shrunk(data, precision, calibration=calibration, verification=verification)
                path.write_bytes(made)
                form = open_form(path, precision, provider)
                figures = measure_form(form, told, validation, track=track)
            except ExportError as error:
                forms.append(Form(precision, against=error.message))
                continue
            classifiers[precision] = form
            forms.append(Form(precision, len(made), figures, against=objection(figures, limits)))
        pictures = [validation.image(at % len(validation)) for at in range(max(BATCH_SIZES))]
        latencies = time_side_by_side(classifiers, pictures, track=track)
    timed = tuple(replace(form, milliseconds=latencies.milliseconds.get(form.precision, {})) for form in forms)
    return FormComparison(timed, best_of(timed), before.device, latencies, limits)


def best_of(forms: Sequence[Form]) -> Precision:
    """The form to use: as of `FormComparison.best`."""
    passing = [form for form in forms if form.passes]
    shortest = min(form.milliseconds[1] for form in passing)
    quick = [form for form in passing if form.milliseconds[1] <= shortest * (1 + _EQUAL_TIME)]
    return min(quick, key=lambda form: form.num_bytes or 0).precision
