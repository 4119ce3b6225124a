"""`cutaway export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.export_combinations import refuse_combinations
from cutaway.cli.export_examples import (
    earlier_examples,
    examples_as_json,
    put_examples,
    refuse_examples,
    tell_examples,
)
from cutaway.cli.export_pictures import SPLIT_NAMES, show
from cutaway.cli.export_sources import ForeignOptions, Source, find_source
from cutaway.cli.export_web import find_runtime, names_a_file, page_as_json, put_page, run_file, tell_page
from cutaway.cli.outputs import Kind, require_file
from cutaway.cli.terminal import as_bytes, bars, say, say_json

if TYPE_CHECKING:
    from cutaway.datasets import Dataset
    from cutaway.progress import Track
    from cutaway.serve.examples import Example
    from cutaway.serve.export import Calibrated, ExportResult, Figures
    from cutaway.serve.export.forms import FormFigures


@dataclass(frozen=True)
class ExportOptions:
    """Export a network to one ONNX file with its preprocessing and its heat-map, verified against PyTorch."""

    reference: tyro.conf.Positional[str | None] = None
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory; or none, with --network; or, with --web,
    a file that was exported before."""
    foreign: tyro.conf.OmitArgPrefixes[ForeignOptions] = field(default_factory=ForeignOptions)
    out: Path | None = None
    """The file; by default export/model.onnx in the run, or NETWORK.onnx."""
    explain: bool = True
    """With the heat-map output, where the network allows, or without it."""
    target_layer: str | None = None
    """Layer that the heat-map is read at; found by default."""
    method: str = "grad-cam"
    """How the heat-map is computed: grad-cam, grad-cam++, hirescam, layercam, xgrad-cam or grad-cam-elementwise."""
    layers: list[str] | None = None
    """Layers whose feature maps the file gives too, as outputs features.LAYER."""
    opset: int = 20
    """Version of ONNX's operators, 18 to 23."""
    input: Literal["pixels", "float"] = "pixels"
    """pixels takes decoded uint8 pictures of any size; float takes normalised float32 [N, C, H, W]."""
    calibrate: bool = False
    """Divide logits by a temperature fitted on the validation split, so that probabilities are as sure as right."""
    precision: Literal["fp32", "fp16", "bf16", "int8", "int8-dynamic"] = "fp32"
    """What the network is computed in. Other forms than fp32 are measured on the validation split beside it."""
    calibration_pictures: int = 256
    """Training pictures that the ranges of int8 are measured on."""
    max_accuracy_drop: float = 0.01
    """Other forms than fp32 that lose more accuracy than this are refused; 0.01 is one point."""
    compare: bool = False
    """Only measure all forms of --precision and print a table; no file is written."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where other forms than fp32 are run to measure them."""
    data: str | None = None
    """Pictures in place of the run's own data, of the same classes; for a network without a bundle, of any."""
    verify_data: tuple[str, ...] = ()
    """Files, folders and patterns of pictures to verify with instead; they need no classes."""
    examples: int = 0
    """Pictures of the test split to put beside the file with their labels, for the page; this publishes them."""
    web: Path | None = None
    """Folder for a page that needs no server: the file classifies and explains in the visitor's browser."""
    web_runtime: Path | None = None
    """Unpacked npm package onnxruntime-web, or its dist folder, for --web; by default npm fetches it."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""
    allow_code: tuple[str, ...] = ()
    """Modules of your own that a network python:MODULE:FACTORY may be imported from."""
    json: bool = False
    """Print what was measured as JSON."""


def run_export(arguments: Sequence[str]) -> None:
    """Exports and tells how well the file agrees with PyTorch."""
    options = parse(ExportOptions, "export", arguments)
    refuse_combinations(options)
    if options.out is not None and not options.compare:
        require_file(options.out, Kind.ONNX)
    is_file = names_a_file(options)
    runtime = find_runtime(options)
    if runtime is not None and is_file:
        run_file(options, runtime)
        return
    if options.compare or options.precision != "fp32":
        from cutaway.cli.export_forms import run_forms

        run_forms(options)
        return
    exported = export_reference(options, track=bars)
    page = put_page(options, exported.result.path, runtime)
    if options.json:
        result = exported.result
        told = {"path": str(result.path), "bytes": result.num_bytes} | asdict(result.figures)
        say_json(told | origin_as_json(exported) | examples_as_json(exported.examples) | page_as_json(page))
        return
    tell(exported)
    tell_page(page)


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        result: The file and its figures.
        calibrated: The temperature in it, where one was asked for.
        notes: What a person should know of how the network was made, a sentence each.
        dataset: The pictures that it was shown, where something says what is right.
        examples: What was put beside the file.
    """

    result: ExportResult
    calibrated: Calibrated | None = None
    notes: tuple[str, ...] = ()
    dataset: Dataset | None = field(default=None, repr=False)
    examples: tuple[Example, ...] = ()


def export_reference(options: ExportOptions, *, track: Track) -> Exported:
    """Exports what the options name."""
    source = source_of(options)
    out = options.out or source.out
    require_file(out, Kind.ONNX)
    refuse_examples(options, out)
    exported = export_source(source, options, out, track=track)
    notes = (*exported.notes, *earlier_examples(options, out))
    return replace(exported, notes=notes, examples=put_examples(options, out, exported.dataset))


def source_of(options: ExportOptions) -> Source:
    """The network that the options name."""
    return find_source(options.reference, options.foreign, allow_code=options.allow_code, allow_nan=options.allow_nan)


def export_source(source: Source, options: ExportOptions, out: Path, *, track: Track) -> Exported:
    """Exports a network in fp32, verified on its own test pictures where it has some, with its test metrics."""
    from cutaway.serve.export import Origin, export_module
    from cutaway.serve.export.conversion import check_opset
    from cutaway.serve.export.methods import find_method

    check_opset(options.opset)
    find_method(options.method)
    shown = show(
        source,
        options.data,
        calibrate=options.calibrate,
        examples=options.examples > 0,
        verify_data=options.verify_data,
        track=track,
    )
    result = export_module(
        source.network,
        source.preprocessing,
        source.classes,
        out,
        images=shown.images,
        images_are=shown.images_are,
        explain="auto" if options.explain else False,
        target_layer=options.target_layer,
        method=options.method,
        layers=options.layers or (),
        opset=options.opset,
        input_form=options.input,
        temperature=None if shown.calibrated is None else shown.calibrated.temperature,
        origin=Origin(source.name, weights=source.weights)
        if source.restored is None
        else Origin.of_bundle(source.restored, shown.evaluation),
        track=track,
    )
    return Exported(result, shown.calibrated, (*source.notes, *shown.notes), shown.dataset)


def tell(exported: Exported) -> None:
    """Says what was made, in a few lines."""
    result = exported.result
    for note in exported.notes:
        say(note)
    say(f"exported {result.path}, {as_bytes(result.num_bytes)}")
    if result.why_not_explained:
        say(f"without a heat-map: {result.why_not_explained}")
    elif result.explained:
        say(f"its heat-map is {result.metadata.title} at {result.metadata.target_layer}")
    if result.metadata.features:
        say(f"it also gives {', '.join(feature.output for feature in result.metadata.features)}")
    say(verified_in_words(result.figures))
    if result.figures.scores_in_unit_range:
        say(
            "all of the network's scores lie between 0 and 1: if it ends with a softmax or sigmoid, export it without, "
            "for the file takes the softmax itself, and of probabilities that makes all classes look alike"
        )
    if result.explained and result.figures.heatmap_correlation is None:
        say("the heat-maps of all these pictures are flat, so nothing of their shape was compared")
    if result.metadata.verification.data.startswith("generated"):
        say("these pictures were generated, since the network came without any; --verify-data names real ones")
    for line in calibration_in_words(exported.calibrated):
        say(line)
    tell_examples(exported.examples)


def verified_in_words(figures: Figures) -> str:
    """How well a file agrees with PyTorch, in a line."""
    return (
        f"verified against PyTorch on {figures.pictures} pictures in {figures.comparisons} comparisons: "
        f"probabilities differ by {figures.probability_difference:.1e} at most"
    )


def form_in_words(figures: FormFigures, before: str) -> str:
    """The accuracy of a smaller form and `before`, in a line."""
    return (
        f"accuracy on {figures.pictures} validation pictures {figures.accuracy:.2%}, {before} "
        f"{figures.accuracy_before:.2%}; the same top class in {figures.top1_agreement:.2%}"
    )


def origin_as_json(exported: Exported) -> dict[str, Any]:
    """The temperature and the notes: what goes for every form of the file."""
    calibrated = exported.calibrated
    return {"calibration": None if calibrated is None else asdict(calibrated), "notes": exported.notes}


def calibration_in_words(calibrated: Calibrated | None) -> list[str]:
    """The temperature and what it does, a line each; none without one."""
    if calibrated is None:
        return []
    pictures = f"{calibrated.num_fitted} validation pictures"
    lines = [
        f"calibrated: temperature {calibrated.temperature:.3f} ± {calibrated.standard_error:.3f}, fitted on {pictures}",
        f"on {calibrated.num_measured} {SPLIT_NAMES[calibrated.measured_on]} pictures the calibration error goes from "
        f"{calibrated.ece_before:.4f} to {calibrated.ece_after:.4f}, and the negative log-likelihood from "
        f"{calibrated.nll_before:.4f} to {calibrated.nll_after:.4f}",
    ]
    if calibrated.measured_on == "valid":
        lines.append("that is on the pictures that it was fitted on, as there is no test split: it looks better so")
    if calibrated.is_on_few:
        lines.append(f"{pictures} are few to calibrate on; the temperature may be off by twice its error and more")
    return lines
