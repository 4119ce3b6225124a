"""`cutaway evaluate`: how well a network tells the classes apart, where it fails, and against another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.inspecting.splits import SplitName, split_named
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import bars, say, say_json
from cutaway.errors import DataError


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a bundle: figures, classes, confusions, mistakes with heat-maps, calibration, a map of the pictures."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    data: str | None = None
    """Pictures of the same classes, in place of the run's own data."""
    split: SplitName | None = None
    """By default the test, or the validation split where there is no test."""
    against: str | None = None
    """Another bundle or run to compare with: which pictures it recognises and this one does not, and the other way."""
    slice_by: tuple[str, ...] = ()
    """Columns to tell the accuracy by: folder (inside the classes' folders), or those of a CSV list."""
    embedding: Literal["pca", "tsne", "umap", "none"] = "pca"
    """How the map of the pictures is made."""
    target_layer: str | None = None
    """Layer to read heat-maps at; found by default."""
    out: Path = Path("evaluation")
    """Directory for figures and tables."""
    form: Annotated[Literal["rich", "json", "csv"], tyro.conf.arg(name="format")] = "rich"
    """What is printed: tables, everything as JSON, or the classes as CSV."""
    json: bool = False
    """The same as --format json."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:NUMBER or mps."""
    batch_size: int = 256
    """Pictures at a time."""
    workers: int = 0
    """Processes that decode pictures which don't fit into memory."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_evaluate(arguments: Sequence[str]) -> None:
    """Evaluates, writes figures and tables, and prints what was found."""
    options = parse(EvaluateOptions, "evaluate", arguments)
    if options.batch_size < 1 or options.workers < 0:
        raise DataError("--batch-size must be 1 at least, and --workers 0.")
    require_folder(options.out)
    from cutaway.cli.inspecting import evaluation_files, evaluation_tables
    from cutaway.cli.inspecting.comparing import compared, in_memory
    from cutaway.cli.inspecting.evaluated import Evaluated
    from cutaway.cli.run_data import data_of
    from cutaway.devices import choose_device
    from cutaway.inspect.assessment import assess
    from cutaway.inspect.canvas import legible

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    other = None if options.against is None else options.reading.restore(options.against)
    dataset = data_of(restored, options.data, track=bars)
    split = split_named(dataset, options.split)
    assessment = assess(
        restored.network.to(device),
        in_memory(dataset, split, restored.preprocessing),
        restored.preprocessing,
        restored.classes,
        shown=split,
        slice_by=options.slice_by,
        embedding=None if options.embedding == "none" else options.embedding,
        target_layer=options.target_layer,
        device=device,
        batch_size=options.batch_size,
        workers=options.workers,
        track=bars,
    )
    evaluated = Evaluated(str(restored.path), dataset.name, restored.preprocessing, assessment)
    if other is not None:
        against = compared(
            other,
            restored,
            dataset,
            split,
            assessment.answers,
            device=device,
            batch_size=options.batch_size,
            workers=options.workers,
        )
        evaluated = replace(evaluated, against=against)
    written = evaluation_files.write_all(evaluated, options.out)
    form = "json" if options.json else options.form
    if form == "json":
        say_json(evaluation_files.as_json(evaluated) | {"files": [str(options.out / name) for name in written]})
    elif form == "csv":
        print(evaluation_files.classes_csv(assessment), end="")
    else:
        evaluation_tables.show(evaluated)
        left = len(dataset.train) + len(dataset.valid) + len(dataset.test) - len(split)
        if options.data is not None and left:
            say(f"\n{left:,} more pictures of {options.data} are in its other splits: --split all takes every one.")
        say(f"\nin {options.out}: {', '.join(written)}")
        unwritten = sum(not legible(name, "") for name in restored.classes)
        if unwritten:
            say(f"No installed font can write {unwritten} of the names: figures show their numbers in classes.csv.")
