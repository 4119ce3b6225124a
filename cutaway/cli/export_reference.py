"""The export in fp32 of the network that a person named, with the pictures that it is verified on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.arguments import layer_names
from cutaway.cli.export_examples import earlier_examples, put_examples, refuse_examples
from cutaway.cli.export_options import ExportOptions
from cutaway.cli.export_pictures import show
from cutaway.cli.export_sources import Source, find_source
from cutaway.cli.outputs import Kind, require_file

if TYPE_CHECKING:
    from cutaway.datasets import Dataset
    from cutaway.progress import Track
    from cutaway.serve.examples import Example
    from cutaway.serve.export import Calibrated, ExportResult


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
        layers=layer_names(options.layers) or (),
        opset=options.opset,
        input_form=options.input,
        temperature=None if shown.calibrated is None else shown.calibrated.temperature,
        origin=Origin(source.name, weights=source.weights)
        if source.restored is None
        else Origin.of_bundle(source.restored, shown.evaluation),
        track=track,
    )
    return Exported(result, shown.calibrated, (*source.notes, *shown.notes), shown.dataset)
