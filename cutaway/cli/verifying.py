"""`cutaway verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.export_pictures import labelled, own_pictures, pictures_in
from cutaway.cli.export_sources import ForeignOptions, find_source
from cutaway.cli.export_words import form_in_words, verified_in_words
from cutaway.cli.terminal import bars, say, say_json, say_table

if TYPE_CHECKING:
    from cutaway.datasets import Split
    from cutaway.preprocessing.spec import Pixels
    from cutaway.progress import Track
    from cutaway.serve.export import FileComparison

_DEVICES = {"cpu": "the CPU", "cuda": "the GPU"}


@dataclass(frozen=True)
class VerifyOptions:
    """Compare an exported file again with the network that it was made of, by the limits that it was held to."""

    model: tyro.conf.Positional[Path]
    """An ONNX file that cutaway export made."""
    reference: tyro.conf.Positional[str | None] = None
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory; or none, with --network."""
    foreign: tyro.conf.OmitArgPrefixes[ForeignOptions] = field(default_factory=ForeignOptions)
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ONNX Runtime runs the file; PyTorch runs the network on the CPU."""
    data: str | None = None
    """Other pictures than the run's own: a folder or a data set, for smaller forms one of the same classes."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""
    allow_code: tuple[str, ...] = ()
    """Modules of your own that a network python:MODULE:FACTORY may be imported from."""
    json: bool = False
    """Print what was measured as JSON."""


def run_verify(arguments: Sequence[str]) -> None:
    """Compares, tells the figures, and ends with an error where they are beyond the limits."""
    options = parse(VerifyOptions, "verify", arguments)
    comparison, notes = compare(options, track=bars)
    if options.json:
        say_json(_as_json(comparison, notes))
    else:
        tell(comparison, notes)
    if comparison.against is not None:
        raise comparison.against


def compare(options: VerifyOptions, *, track: Track) -> tuple[FileComparison, tuple[str, ...]]:
    """Compares the file with what the options name.

    Returns:
        The comparison, and what a person should know of it and of how the network was made, a sentence each.
    """
    from cutaway.serve.classifier import Classifier
    from cutaway.serve.export import compare_file

    # First of all: a damaged file is told of before a network is loaded for it.
    exported = Classifier(options.model, provider=options.provider).metadata
    source = find_source(
        options.reference,
        options.foreign,
        allow_code=options.allow_code,
        allow_nan=options.allow_nan,
        exported=exported,
    )
    images: list[Pixels] = []
    validation: Split | None = None
    if exported.precision != "fp32":
        named = f"folder:{options.data}" if options.data and Path(options.data).is_dir() else options.data
        validation = labelled(source, named, f"A file in {exported.precision} is judged", track=track).valid
    else:
        images = own_pictures(source, track=track) if options.data is None else pictures_in(options.data)
    comparison = compare_file(
        options.model,
        source.network,
        source.preprocessing,
        source.classes,
        images=images,
        validation=validation,
        bundle="" if source.restored is None else source.restored.manifest.digest(),
        weights=source.weights,
        provider=options.provider,
        track=track,
    )
    return comparison, (*source.notes, *comparison.notes)


def tell(comparison: FileComparison, notes: Sequence[str]) -> None:
    """Prints what was compared, what a person should know of it, and the figures beside their limits."""
    from cutaway.serve.export import Figures

    metadata, figures = comparison.metadata, comparison.figures
    say(f"{comparison.path}: {metadata.network} in {metadata.precision}, run on {_DEVICES[comparison.device]}")
    for note in notes:
        say(note)
    measured = _measured(figures)
    rows = [
        [name.replace("_", " "), f"{measured[name]:.4g}", f"{limit:g}"]
        for name, limit in comparison.limits.items()
        if measured.get(name) is not None
    ]
    say_table(["figure", "measured", "allowed"], rows)
    if not isinstance(figures, Figures):
        say(form_in_words(figures, "of PyTorch in fp32"))
    elif comparison.passes:
        say(verified_in_words(figures))


def _measured(figures: Any) -> dict[str, Any]:
    measured = asdict(figures)
    if hasattr(figures, "accuracy_drop"):
        measured["accuracy_drop"] = figures.accuracy_drop
    return measured


def _as_json(comparison: FileComparison, notes: Sequence[str]) -> dict[str, Any]:
    measured = {
        # What JSON has no number for.
        name: str(value) if isinstance(value, float) and not abs(value) < float("inf") else value
        for name, value in _measured(comparison.figures).items()
    }
    return {
        "path": str(comparison.path),
        "precision": comparison.metadata.precision,
        "device": comparison.device,
        "passes": comparison.passes,
        "against": "" if comparison.against is None else comparison.against.message,
        "thresholds": dict(comparison.limits),
        "notes": list(notes),
        **measured,
    }
