"""`cutaway export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.terminal import as_bytes, bars, say, say_json

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.evaluation import Evaluation
    from cutaway.preprocessing.spec import Pixels
    from cutaway.progress import Track
    from cutaway.serve.export import ExportResult


@dataclass(frozen=True)
class ExportOptions:
    """Export a network to one ONNX file with its preprocessing and its Grad-CAM, verified against PyTorch."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    out: Path | None = None
    """The file; by default export/model.onnx in the run."""
    explain: bool = True
    """With the heat-map output, where the network allows, or without it."""
    target_layer: str | None = None
    """Layer that the heat-map is read at; found by default."""
    input: Literal["pixels", "float"] = "pixels"
    """pixels takes decoded uint8 pictures of any size; float takes normalised float32 [N, C, H, W]."""
    data: str | None = None
    """Pictures to verify with, in place of the run's own data; an imported bundle has none and takes generated ones."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""
    json: bool = False
    """Print what was measured as JSON."""


def run_export(arguments: Sequence[str]) -> None:
    """Exports and tells how well the file agrees with PyTorch."""
    options = parse(ExportOptions, "export", arguments)
    result = export_reference(options, track=bars)
    if options.json:
        say_json({"path": str(result.path), "bytes": result.num_bytes} | asdict(result.figures))
        return
    tell(result)


def export_reference(options: ExportOptions, *, track: Track) -> ExportResult:
    """Exports the bundle that the options name, with its test metrics, verified on its own test pictures."""
    from cutaway.checkpoints import restore
    from cutaway.serve.export import export

    restored = restore(options.reference, allow_nan=options.allow_nan)
    images, evaluation = _tested(restored, options.data, track)
    return export(
        restored,
        options.out or restored.path.parent.parent / "export" / "model.onnx",
        images=images,
        explain="auto" if options.explain else False,
        target_layer=options.target_layer,
        input_form=options.input,
        evaluation=evaluation,
        track=track,
    )


def _tested(restored: Restored, data: str | None, track: Track) -> tuple[list[Pixels], Evaluation | None]:
    """Test pictures to verify with and the network's answers to all of them; none where it was imported."""
    from cutaway.checkpoints.importing import is_imported
    from cutaway.cli.run_data import data_of
    from cutaway.datasets import into_memory
    from cutaway.evaluation import evaluate
    from cutaway.serve.export.verification import NUM_PICTURES

    if data is None and is_imported(restored.manifest):
        return [], None
    dataset = data_of(restored, data, track=track)
    split = dataset.test if len(dataset.test) else dataset.valid
    every = max(1, len(split) // NUM_PICTURES)
    images = [split.image(index) for index in range(0, len(split), every)][:NUM_PICTURES]
    prepared = into_memory(dataset, restored.preprocessing, track=track)
    return images, evaluate(
        restored.network, prepared.split(split.name), restored.preprocessing, track=track, batch_size=256
    )


def tell(result: ExportResult) -> None:
    """Says what was made, in a few lines."""
    say(f"exported {result.path}, {as_bytes(result.num_bytes)}")
    if result.why_not_explained:
        say(f"without a heat-map: {result.why_not_explained}")
    elif result.explained:
        say(f"its heat-map is Grad-CAM at {result.metadata.target_layer}")
    figures = result.figures
    say(
        f"verified against PyTorch on {figures.pictures} pictures in {figures.comparisons} comparisons: "
        f"probabilities differ by {figures.probability_difference:.1e} at most"
    )
    if result.metadata.verification.data.startswith("generated"):
        say("these pictures were generated, as an imported bundle has none; --data names real ones")
