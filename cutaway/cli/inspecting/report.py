"""`cutaway inspect report`: everything in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from cutaway.cli import complain
from cutaway.cli.arguments import parse
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import bars, say
from cutaway.errors import BundleError, SettingsError

if TYPE_CHECKING:
    import torch

    from cutaway.checkpoints import Restored, Run
    from cutaway.datasets import Dataset
    from cutaway.evaluation import Evaluation
    from cutaway.inspect.report import Other
    from cutaway.inspect.run_histories import Moment

_MOST_BUNDLES = 40


@dataclass(frozen=True)
class ReportOptions:
    """Write everything that there is to see into one HTML file that needs no network."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    out: Path | None = None
    """The file; by default report/index.html in the run."""
    data: str | None = None
    """Pictures to evaluate on, in place of the run's own data."""
    sections: list[str] | None = None
    """Only these, in the report's order: samples trust scores calibration slices comparison embedding curves
    augmented layers kernels features channels outputs weights history settings environment."""
    slice_by: list[str] | None = None
    """Columns of the pictures to score the parts of: folder, or those of a CSV list; by default every one that makes
    a few."""
    against: str | None = None
    """Another bundle or run, to show which pictures it recognises and this one does not, and the other way."""
    tensorboard: bool = False
    """Write the figures and the network's graph into the run's TensorBoard events too."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_report(arguments: Sequence[str]) -> None:
    """Writes the report."""
    options = parse(ReportOptions, "inspect report", arguments)
    from cutaway.cli.run_data import data_of

    if options.sections == []:
        raise SettingsError("No section is named.", hint="Leave --sections out for all of them.")
    if options.out is not None:
        require_folder(options.out.parent if options.out.suffix.lower() in (".html", ".htm") else options.out)
    from cutaway.devices import choose_device

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    dataset = data_of(restored, options.data, track=bars)
    out = options.out or restored.path.parent.parent / "report" / "index.html"
    written = write_html(
        restored,
        dataset,
        out,
        slice_by=options.slice_by,
        against=None if options.against is None else options.reading.restore(options.against),
        sections=options.sections,
        tensorboard=options.tensorboard,
        device=device,
    )
    say(written)


def write_html(
    restored: Restored,
    dataset: Dataset,
    out: Path,
    *,
    slice_by: Sequence[str] | None = None,
    against: Restored | None = None,
    sections: Sequence[str] | None = None,
    tensorboard: bool = False,
    device: torch.device | str = "cpu",
) -> str:
    """Writes the report, or these sections of it, of a network on `device`; returns a line on it."""
    import torch

    from cutaway.checkpoints import Run
    from cutaway.cli.inspecting.layers import training_memory_of
    from cutaway.cli.run_data import tell_validation
    from cutaway.datasets import into_memory
    from cutaway.evaluation import evaluate
    from cutaway.images import decode
    from cutaway.inspect.event_files import EventFiles
    from cutaway.inspect.report import report_of_bundle, write_events, write_report

    split = "test" if len(dataset.test) else "valid"
    if split == "valid":
        tell_validation()
    prepared = into_memory(dataset, restored.preprocessing, track=bars)
    answers = evaluate(restored.network, prepared.split(split), restored.preprocessing, device=device, track=bars)
    run = Run(restored.path.parent.parent)
    rows = [entry for entry in run.journal() if entry["kind"] == "epoch"]
    augmented = decode(run.augmented) if run.augmented.is_file() else None
    history = _history(restored, run) if sections is None or "history" in sections else ()
    report = report_of_bundle(
        restored,
        dataset,
        answers,
        split=split,
        journal=rows,
        augmented=augmented,
        history=history,
        slice_by=slice_by,
        against=None if against is None else _other(against, restored, dataset, split, answers, device),
        memory=training_memory_of(restored),
        sections=sections,
        track=bars,
    )
    written = f"a report to open in a browser: {write_report(out, report)}"
    if tensorboard:
        with EventFiles(run.tensorboard, step=restored.manifest.progress.step) as events:
            write_events(events, report)
            why = events.graph(restored.network, torch.zeros(1, *restored.spec.input_shape))
        written += f"\nits figures in TensorBoard: tensorboard --logdir {run.path}" + (f"\n{why}" if why else "")
    return written


def _other(
    other: Restored,
    restored: Restored,
    dataset: Dataset,
    split: str,
    answers: Evaluation,
    device: torch.device | str,
) -> Other:
    """Another bundle's answers, under a name without the path of any machine."""
    from cutaway.cli.inspecting.comparing import compared
    from cutaway.inspect.report import Other

    found = compared(other, restored, dataset, dataset.split(split), answers, device=device)
    progress = other.manifest.progress
    name = f"{other.spec.name} of epoch {progress.epoch}, step {progress.step}, bundle {other.manifest.digest()[:12]}"
    return Other(name, found.answers, found.learned)


def _history(restored: Restored, run: Run) -> Sequence[Moment]:
    """The run's weights from bundle to bundle; a damaged bundle costs this section, not the report."""
    from cutaway.inspect.run_histories import run_history

    names = [name for name, _ in restored.network.named_parameters()]
    try:
        bundles = run.bundles(on_damage=lambda error: complain(f"Left out: {error.message}"))
        return run_history(bundles[-_MOST_BUNDLES:], names, track=bars) if bundles else ()
    except BundleError as error:
        complain(f"The report has no section on weights over the run: {error.message}")
        return ()
