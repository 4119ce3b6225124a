"""`cutaway inspect histograms`: how weights, gradients, updates and activations are distributed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import bars, one_line, say, say_json, without_nan
from cutaway.errors import BundleError, InspectionError, SettingsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cutaway.checkpoints import Restored, Run, Stored
    from cutaway.inspect.histograms import Histogram
    from cutaway.inspect.run_histories import Moment
    from cutaway.inspect.updates import UpdateRatio

Kind = Literal["weights", "biases", "gradients", "activations", "updates"]
_BIASES = "biases and norms"
_BATCH = 64
_MOST_SAID = 12


@dataclass(frozen=True)
class HistogramsOptions:
    """Write histograms of a bundle's weights, gradients, activations and updates, and say what is odd in them."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    of: tuple[Kind, ...] = ("weights",)
    """What to look at: weights, biases (and norms' scales and shifts, and other vectors), gradients (of the loss over
    pictures), activations (over pictures), updates (against the bundle before, and the optimizer's last step)."""
    over_time: bool = False
    """Follow the run's weights and updates from bundle to bundle."""
    data: str | None = None
    """Pictures for gradients and activations, in place of the run's own data."""
    pictures: int = 256
    """How many of its training pictures."""
    out: Path = Path("histograms")
    """Directory for the figures."""
    tensorboard: bool = False
    """Write the distributions into the run's TensorBoard events too."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print the numbers as JSON, in place of writing figures."""
    reading: Reading = field(default_factory=ReadingOptions)


@dataclass(frozen=True)
class _Found:
    """What was asked for: distributions by kind, updates by what they are between, and the run's history."""

    histograms: dict[str, Sequence[Histogram]]
    updates: dict[str, Sequence[UpdateRatio]]
    history: Sequence[Moment]
    notes: Sequence[str]


def run_histograms(arguments: Sequence[str]) -> None:
    """Writes the figures, and says what is odd."""
    options = parse(HistogramsOptions, "inspect histograms", arguments)
    if options.pictures < 1:
        raise SettingsError(f"--pictures must be at least 1, not {options.pictures}.")
    if not options.of:
        raise SettingsError("Nothing is named to look at.", hint="Such as --of weights gradients.")
    if not options.json:
        require_folder(options.out)

    from cutaway.devices import choose_device

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    found = _find(restored, options, device)
    if options.tensorboard:
        where = _write_events(restored, found)
    if options.json:
        say_json(_as_json(found))
        return
    for line in _draw(found, options.out):
        say(one_line(line))
    if options.tensorboard:
        say(one_line(where))
    _say_findings(found)


def write_histograms(restored: Restored, out: Path) -> str:
    """Writes the histograms of the weights as one picture; returns a line on it."""
    from cutaway.inspect import weight_histograms

    (line,) = _draw(_Found({"weights": weight_histograms(restored.network)}, {}, (), ()), out)
    return line


def _find(restored: Restored, options: HistogramsOptions, device: torch.device) -> _Found:
    from cutaway.inspect import weight_histograms
    from cutaway.inspect.histograms import bias_histograms
    from cutaway.inspect.passes import activation_histograms, loss_gradient_histograms

    histograms: dict[str, Sequence[Histogram]] = {}
    updates: dict[str, Sequence[UpdateRatio]] = {}
    notes: list[str] = []
    if "weights" in options.of:
        histograms["weights"] = weight_histograms(restored.network)
    if "biases" in options.of:
        histograms[_BIASES] = bias_histograms(restored.network)
    if {"gradients", "activations"} & set(options.of):
        batches = list(_batches(restored, options.data, options.pictures, device))
        if "gradients" in options.of:
            histograms["gradients"] = loss_gradient_histograms(restored.network, batches)
        if "activations" in options.of:
            histograms["activations"] = activation_histograms(restored.network, (inputs for inputs, _ in batches))
    history: Sequence[Moment] = ()
    if options.over_time or "updates" in options.of:
        history = _history(restored, over_time=options.over_time, notes=notes)
    if options.over_time and len(history) == 1:
        notes.append(_why_one_moment(restored))
    if "updates" in options.of:
        newest = history[-1]
        if newest.updates:
            updates[f"from step {history[-2].step} to {newest.step}"] = newest.updates
        if newest.last_step:
            rate = "" if newest.lr is None else f", learning rate {newest.lr:.2g}"
            updates[f"in step {newest.step}{rate}"] = newest.last_step
        if newest.why_no_last_step:
            notes.append(newest.why_no_last_step)
        if not updates:
            notes.append("There is no bundle before this one to compare with.")
    return _Found(histograms, updates, history if options.over_time else (), notes)


def _batches(
    restored: Restored, data: str | None, pictures: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures spread evenly over the training split, or over the first split that holds any; and labels."""
    import torch

    from cutaway.batches import Feed
    from cutaway.cli.run_data import data_of

    dataset = data_of(restored, data, track=bars)
    split = next((split for split in (dataset.train, dataset.valid, dataset.test) if len(split)), None)
    if split is None:
        raise InspectionError("The data holds no pictures.", hint="Name others: --data folder:PATH.")
    order = torch.linspace(0, len(split) - 1, min(pictures, len(split))).round().long()
    feed = Feed(split, restored.preprocessing, device=device)
    for batch in bars(feed.batches(_BATCH, order), "reading pictures", -(-len(order) // _BATCH)):
        yield feed.inputs(batch), batch.labels


def _history(restored: Restored, *, over_time: bool, notes: list[str]) -> Sequence[Moment]:
    from cutaway.inspect.run_histories import run_history

    bundles = _bundles_until(restored, notes)
    names = [name for name, _ in restored.network.named_parameters()]
    return run_history(bundles if over_time else bundles[-2:], names, track=bars)


def _bundles_until(restored: Restored, notes: list[str]) -> list[Stored]:
    """The run's bundles up to this one, one for each step; whole ones, or this one alone where it lies by itself."""
    from cutaway.checkpoints import Stored

    run = _run_of(restored)
    own = Stored(restored.path, restored.manifest)
    if run is None:
        return [own]
    damaged: list[BundleError] = []
    step = restored.manifest.progress.step
    earlier = [one for one in run.bundles(on_damage=damaged.append) if one.manifest.progress.step < step]
    notes.extend(f"Left out: {error.message}" for error in damaged)
    return [*{one.manifest.progress.step: one for one in earlier}.values(), own]


def _why_one_moment(restored: Restored) -> str:
    """Why there is nothing to follow over time, and where there is more."""
    run = _run_of(restored)
    step = restored.manifest.progress.step
    later = [] if run is None else [one.manifest.progress.step for one in run.bundles(on_damage=lambda _: None)]
    said = f"There is no bundle before step {step} to follow it from"
    if run is not None and max(later, default=0) > step:
        return f"{said}; {run.path}@last has those up to step {max(later)}."
    return f"{said}; train with --keep-last or --keep-every to keep more."


def _run_of(restored: Restored) -> Run | None:
    """The run that a bundle lies in."""
    from cutaway.checkpoints import Run

    run = Run(restored.path.parent.parent)
    return run if restored.path.parent.name == run.checkpoints.name else None


def _draw(found: _Found, out: Path) -> list[str]:
    """Writes the figures; returns a line on each."""
    from cutaway.inspect.canvas import png
    from cutaway.inspect.figures import draw_histograms
    from cutaway.inspect.histogram_figures import draw_updates, draw_updates_over_time, draw_weights_over_time

    out.mkdir(parents=True, exist_ok=True)
    lines = []

    def write(name: str, picture: bytes, what: str) -> None:
        file = out / f"{name}.png"
        file.write_bytes(picture)
        lines.append(f"{what}: {file}")

    for kind, histograms in found.histograms.items():
        if histograms:
            write(
                kind.partition(" ")[0],
                png(draw_histograms(histograms, title=kind.capitalize())),
                f"histograms of the {kind}",
            )
    for between, updates in found.updates.items():
        name = "last-step" if between.startswith("in step") else "updates"
        write(name, png(draw_updates(updates, title=f"Updates {between}")), f"updates {between}")
    if len(found.history) > 1:
        write("weights-over-time", png(draw_weights_over_time(found.history)), "weights over time")
        if any(moment.updates or moment.last_step for moment in found.history):
            write("updates-over-time", png(draw_updates_over_time(found.history)), "updates over time")
    return lines


def _write_events(restored: Restored, found: _Found) -> str:
    """Writes the distributions, and the history's, at the steps of their bundles; returns a line on it."""
    from cutaway.inspect.event_files import EventFiles
    from cutaway.inspect.histogram_figures import draw_updates

    run = _run_of(restored)
    if run is None:
        raise InspectionError(f"{restored.path} lies in no run, so it has no TensorBoard events.")
    with EventFiles(run.tensorboard, step=restored.manifest.progress.step) as events:
        for kind, histograms in found.histograms.items():
            events.histograms(f"inspect {kind}", histograms)
        for moment in found.history:
            events.histograms("inspect parameters", moment.parameters, step=moment.step)
        for between, updates in found.updates.items():
            events.figure(f"inspect updates/{between}", draw_updates(updates, title=f"Updates {between}"))
    return f"TensorBoard events in {run.tensorboard}"


def _say_findings(found: _Found) -> None:
    from cutaway.inspect.histogram_findings import findings, update_findings

    said = [
        f"{kind}: {sentence}"
        for kind, some in found.histograms.items()
        for sentence in findings(some, are_activations=kind == "activations")
    ]
    said += [
        f"updates {name}: {sentence}" for name, some in found.updates.items() for sentence in update_findings(some)
    ]
    for moment in found.history:
        said += [
            f"step {moment.step}: {one}" for one in findings(moment.parameters) if "NaN" in one or "infinite" in one
        ]
    for line in [*found.notes, *said[:_MOST_SAID]]:
        say(one_line(line))
    if len(said) > _MOST_SAID:
        say(f"… and {len(said) - _MOST_SAID} more; --json has all numbers.")


def _as_json(found: _Found) -> dict[str, object]:
    from cutaway.inspect.histogram_findings import findings, update_findings

    plain: dict[str, object] = {
        kind: [_plain(histogram) for histogram in histograms] for kind, histograms in found.histograms.items()
    }
    if found.updates:
        plain["updates"] = {name: [_update(one) for one in updates] for name, updates in found.updates.items()}
    if found.history:
        plain["over_time"] = [
            {
                "step": moment.step,
                "lr": moment.lr,
                "parameters": [_plain(histogram) for histogram in moment.parameters],
                "updates": [_update(update) for update in moment.updates],
                "last_step": [_update(update) for update in moment.last_step],
            }
            for moment in found.history
        ]
    sentences = [
        one for kind, some in found.histograms.items() for one in findings(some, are_activations=kind == "activations")
    ]
    sentences += [one for updates in found.updates.values() for one in update_findings(updates)]
    return plain | {"findings": sentences, "notes": list(found.notes)}


def _plain(histogram: Histogram) -> dict[str, object]:
    values = {name: getattr(histogram, name) for name in ("mean", "std", "zeros", "smallest", "largest")}
    return {
        "name": histogram.name,
        "shape": histogram.shape,
        "counts": histogram.counts.tolist(),
        "edges": histogram.edges.tolist(),
        "nan": histogram.num_nan,
        "infinite": histogram.num_infinite,
        "outliers": histogram.num_outliers,
        "quantiles": [value if value == value else "nan" for value in histogram.quantiles],
    } | without_nan(values)


def _update(update: UpdateRatio) -> dict[str, object]:
    values = {"ratio": update.ratio, "weight_norm": update.weight_norm, "update_norm": update.update_norm}
    return {"name": update.name, "steps": update.steps} | without_nan(values)
