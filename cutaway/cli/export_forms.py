"""`cutaway export --precision` and `--compare`: smaller forms of the file, measured beside fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.cli.export_examples import (
    earlier_examples,
    examples_as_json,
    put_examples,
    refuse_examples,
    tell_examples,
)
from cutaway.cli.export_options import ExportOptions
from cutaway.cli.export_pictures import labelled
from cutaway.cli.export_reference import Exported, export_source, source_of
from cutaway.cli.export_sources import Source
from cutaway.cli.export_words import calibration_in_words, form_in_words, origin_as_json
from cutaway.cli.outputs import Kind, require_file
from cutaway.cli.terminal import as_bytes, bars, say, say_json, say_table

if TYPE_CHECKING:
    from cutaway.preprocessing.spec import Pixels
    from cutaway.progress import Track
    from cutaway.serve.examples import Example
    from cutaway.serve.export.forms import Form, FormComparison, FormResult


_DYNAMIC = (
    "int8-dynamic finds its scales for each batch as a whole: a picture's answer depends a little on its neighbours"
)


def run_forms(options: ExportOptions) -> None:
    """Makes one form, or measures all, and tells of it."""
    examples: tuple[Example, ...] = ()
    if options.compare:
        comparison, exported = compare_all(options, track=bars)
        told, tell = _as_json(comparison), partial(tell_comparison, comparison)
    else:
        result, exported, examples = make_one(options, track=bars)
        told, tell = _form_as_json(result), partial(tell_form, result)
    if options.json:
        say_json(told | origin_as_json(exported) | examples_as_json(examples))
        return
    for line in (*exported.notes, *calibration_in_words(exported.calibrated)):
        say(line)
    tell()
    tell_examples(examples)


def make_one(options: ExportOptions, *, track: Track) -> tuple[FormResult, Exported, tuple[Example, ...]]:
    """Exports in fp32 aside, verified, and makes the form of that, with examples where they are asked for."""
    from cutaway.serve.export.forms import make_form

    source = source_of(options)
    out = options.out or source.out.with_name(f"{source.out.stem}-{options.precision}.onnx")
    require_file(out, Kind.ONNX)
    refuse_examples(options, out)
    with _exported_aside(source, options, track=track) as aside:
        fp32 = aside.exported.result.path
        result = make_form(fp32, out, options.precision, track=track, **aside.judged_with)
    exported = replace(aside.exported, notes=(*aside.exported.notes, *earlier_examples(options, out)))
    return result, exported, put_examples(options, out, exported.dataset)


def compare_all(options: ExportOptions, *, track: Track) -> tuple[FormComparison, Exported]:
    """Exports in fp32 aside, verified, and measures all forms of that."""
    from cutaway.serve.export.forms import compare_forms

    with _exported_aside(source_of(options), options, track=track) as aside:
        return compare_forms(aside.exported.result.path, track=track, **aside.judged_with), aside.exported


@dataclass(frozen=True)
class _Aside:
    """An export in fp32 that is kept as long as forms are made of it.

    Attributes:
        exported: What came of it.
        judged_with: What forms are made and judged with.
    """

    exported: Exported
    judged_with: dict[str, Any]


@contextmanager
def _exported_aside(source: Source, options: ExportOptions, *, track: Track) -> Iterator[_Aside]:
    from cutaway.serve.export.forms import Limits, calibration_pictures

    limits = Limits(accuracy_drop=options.max_accuracy_drop)
    dataset = labelled(source, options.data, "Other forms than fp32 are judged", track=track)
    calibration: list[Pixels] = []
    if options.compare or options.precision == "int8":
        calibration = calibration_pictures(dataset.train, options.calibration_pictures)
    judged_with = {
        "validation": dataset.valid,
        "calibration": calibration,
        "limits": limits,
        "provider": options.provider,
    }
    with tempfile.TemporaryDirectory(prefix="cutaway-export-") as name:
        exported = export_source(source, options, Path(name) / "fp32.onnx", track=track)
        yield _Aside(exported, judged_with)


def tell_form(result: FormResult) -> None:
    """Says what was made, in a few lines."""
    figures, precision = result.figures, result.metadata.precision
    say(f"exported {result.path}, {as_bytes(result.num_bytes)}, in {precision}")
    if result.metadata.calibration:
        say(f"activations' ranges are those on {result.metadata.calibration}")
    say(form_in_words(figures, "in fp32"))
    if figures.heatmap_correlation is not None:
        say(f"its heat-maps explain the {precision} network; correlation with fp32's {figures.heatmap_correlation:.4f}")
    if precision == "int8-dynamic":
        say(_DYNAMIC)


def tell_comparison(comparison: FormComparison) -> None:
    """Prints the table of all forms, and how to get the best."""
    from cutaway.serve.export.forms.timing import BATCH_SIZES

    pictures = next(form.figures.pictures for form in comparison.forms if form.figures is not None)
    times = [f"ms, batch {size}" for size in BATCH_SIZES]
    columns = ["form", "size", "accuracy", "drop", "same top-1", "map corr.", *times, "verdict"]
    rows = [_row(form, BATCH_SIZES, is_best=form.precision == comparison.best) for form in comparison.forms]
    say_table(columns, rows, title=f"Forms on {comparison.provider}, {pictures:,} validation pictures")
    for form in comparison.forms:
        if form.against:
            say(f"{form.precision}: {form.against.rstrip('.')}")
    if any(form.precision == "int8-dynamic" and form.passes for form in comparison.forms):
        say(_DYNAMIC)
    latencies = comparison.latencies
    if latencies.was_loaded:
        say(
            f"others were at work on this machine (load {latencies.load:.1f} on {latencies.num_cores} cores): "
            "times and what is best may be others when it is quiet"
        )
    say(f"best is {comparison.best}: of the forms that pass, the quickest for one picture; within 5 %, the smallest")
    say(f"next: the same command with --precision {comparison.best} in place of --compare")


def _row(form: Form, batch_sizes: tuple[int, ...], *, is_best: bool) -> list[str]:
    size = "-" if form.num_bytes is None else as_bytes(form.num_bytes)
    times = [f"{form.milliseconds[batch]:.2f}" if batch in form.milliseconds else "-" for batch in batch_sizes]
    verdict = "best" if is_best else "passes" if form.passes else "does not run" if form.figures is None else "refused"
    figures = form.figures
    if figures is None:
        return [form.precision, size, "-", "-", "-", "-", *times, verdict]
    correlation = "-" if figures.heatmap_correlation is None else f"{figures.heatmap_correlation:.4f}"
    accuracy = [f"{figures.accuracy:.2%}", f"{100 * figures.accuracy_drop + 0.0:+.2f}", f"{figures.top1_agreement:.2%}"]
    return [form.precision, size, *accuracy, correlation, *times, verdict]


def _form_as_json(result: FormResult) -> dict[str, Any]:
    return {
        "path": str(result.path),
        "bytes": result.num_bytes,
        "precision": result.metadata.precision,
        "thresholds": result.metadata.verification.thresholds,
        **asdict(result.figures),
        "accuracy_drop": result.figures.accuracy_drop,
    }


def _as_json(comparison: FormComparison) -> dict[str, Any]:
    told = asdict(comparison)
    for form, as_told in zip(comparison.forms, told["forms"], strict=True):
        as_told["passes"] = form.passes
        if form.figures is not None:
            as_told["figures"]["accuracy_drop"] = form.figures.accuracy_drop
    told["latencies"] = {
        "load": comparison.latencies.load,
        "num_cores": comparison.latencies.num_cores,
        "was_loaded": comparison.latencies.was_loaded,
    }
    return told
