"""`cutaway inspect capture`: what layers return over a data set, as statistics and as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cutaway.cli.arguments import layer_names, parse
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.inspecting.sources import Files, Samples
from cutaway.cli.inspecting.splits import SplitName
from cutaway.cli.inspecting.tensor_files import TensorFiles, first_in_two, tensor_files
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import as_percent, one_line, say, say_json, say_table, without_nan
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.inspect.layer_statistics import LayerStatistics

_QUANTILES = (0.01, 0.5, 0.99)


@dataclass(frozen=True)
class CaptureOptions:
    """Tell how the values of layers are distributed over a data set, and write them to files if asked."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    layers: list[str] | None = None
    """Layers and operations by name or pattern, such as layer4.* or '*:relu#*', a b or a,b; by default all
    that compute."""
    of: tuple[Literal["outputs", "inputs", "gradients"], ...] = ("outputs",)
    """What to look at: outputs, inputs, gradients (of each picture's own loss, at the outputs)."""
    data: str | None = None
    """Pictures to look at, in place of the run's own data."""
    split: SplitName | None = None
    """Which of its splits, or all of them; by default test, or valid where there is none."""
    pictures: int | None = None
    """So many of them, spread evenly over the split; by default all."""
    images: Annotated[list[str] | None, tyro.conf.arg(aliases=["--image"])] = None
    """Picture files, folders and patterns to look at, in place of a data set."""
    quantiles: tuple[float, ...] = _QUANTILES
    """Shares of the values to tell the quantile of, to 1/128 of it."""
    out: Path | None = None
    """A directory to write the values themselves into, an .npy file [pictures, ...] for each tensor, and index.json."""
    batch_size: int = 64
    """Pictures at a time."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print JSON, with a histogram of each."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_capture(arguments: Sequence[str]) -> None:
    """Prints the statistics, and writes the arrays."""
    options = parse(CaptureOptions, "inspect capture", arguments)
    _check(options)
    from cutaway.devices import choose_device
    from cutaway.inspect.layer_statistics import layer_statistics

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    source = (
        Files(restored, options.images, device, options.batch_size)
        if options.images is not None
        else Samples(
            restored,
            options.data,
            options.split,
            options.pictures,
            device,
            options.batch_size,
            with_labels="gradients" in options.of,
        )
    )
    with nullcontext() if options.out is None else tensor_files(options.out, source.number) as files:
        found = layer_statistics(
            restored.network,
            source.batches() if files is None else first_in_two(source.batches()),
            layer_names(options.layers) or None,
            parts=options.of,
            on_tensor=None if files is None else files.add,
        )
        entries = [] if files is None else files.finish(_about(restored, source), source.number)
    if options.json:
        say_json(_as_json(found, entries, options))
    else:
        _show(found, source, options)
        _say_files(files, entries, options)
    source.refuse_broken()


def _check(options: CaptureOptions) -> None:
    if options.batch_size < 1:
        raise SettingsError(f"--batch-size must be at least 1, not {options.batch_size}.")
    if options.pictures is not None and options.pictures < 1:
        raise SettingsError(f"--pictures must be at least 1, not {options.pictures}.")
    if not options.of:
        raise SettingsError("Nothing is named to look at.", hint="Such as --of outputs gradients.")
    wrong = [share for share in options.quantiles if not 0 <= share <= 1]
    if wrong:
        raise SettingsError(f"--quantiles are shares from 0 to 1, not {wrong[0]:g}.", hint="The median is 0.5.")
    if options.images is not None:
        beside = [name for name in ("data", "split", "pictures") if getattr(options, name) is not None]
        if beside:
            raise SettingsError(f"--images and --{beside[0]} both say what to look at.", hint="Give one of them.")
        if "gradients" in options.of:
            raise SettingsError(
                "Gradients are of a loss, which takes the pictures' labels, and files have none.",
                hint="Name a data set: --data folder:PATH.",
            )
    if options.out is not None:
        require_folder(options.out)


def _about(restored: Restored, source: Samples | Files) -> dict[str, object]:
    own = {"network": restored.spec.name, "bundle": restored.manifest.digest(), "classes": list(restored.classes)}
    return own | source.about()


def _show(found: Sequence[LayerStatistics], source: Samples | Files, options: CaptureOptions) -> None:
    called = [one for one in found if one.is_called]
    several = len(set(options.of)) > 1
    broken = next((one for one in called if not one.statistics.is_finite), None)
    columns = ("layer", "type", *(["of"] if several else []), "shape", "mean", "std", "min")
    columns += (*(_percent(share) for share in options.quantiles), "max", "zeros")
    columns += () if broken is None else ("not finite",)
    say_table(
        columns,
        [_row(one, options.quantiles, several=several)[: len(columns)] for one in called],
        title=one_line(f"{source.number:,} picture{'' if source.number == 1 else 's'}: {source.called}"),
    )
    if broken is not None:
        say(one_line(f"The first of them that are not finite are the {broken.part} of {broken.layer}."))
    idle = dict.fromkeys(one.layer for one in found if not one.is_called)
    if idle:
        say(one_line(f"Never called: {', '.join(idle)}."))


def _row(one: LayerStatistics, quantiles: Sequence[float], *, several: bool) -> tuple[object, ...]:
    values = one.statistics
    shape = ", ".join("×".join(map(str, shape)) or "1" for shape in one.shapes) or "-"
    numbers = (values.mean, values.std, values.minimum, *map(values.quantile, quantiles), values.maximum)
    # No more digits than quantiles have, so that the table is no wider than it must be.
    told = ["-" if not values.count else float(f"{number:.3g}") for number in numbers]
    odd = values.num_nan + values.num_infinite
    part = (one.part,) if several else ()
    return (one_line(one.layer), one.kind, *part, shape, *told, as_percent(values.zeros if values.count else None), odd)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _say_files(files: TensorFiles | None, entries: Sequence[object], options: CaptureOptions) -> None:
    if files is None:
        return
    if entries:
        say(one_line(f"the values in {options.out}"))
    if files.left_out:
        say(one_line(f"Without a row for each picture, so not written: {', '.join(files.left_out)}."))


def _as_json(
    found: Sequence[LayerStatistics], entries: Sequence[dict[str, object]], options: CaptureOptions
) -> list[dict[str, object]]:
    files: dict[tuple[object, object], list[str]] = {}
    for entry in entries:
        files.setdefault((entry["layer"], entry["part"]), []).append(str((options.out or Path()) / str(entry["file"])))
    return [_entry(one, files.get((one.layer, one.part), []), options.quantiles) for one in found]


def _entry(one: LayerStatistics, files: list[str], quantiles: Sequence[float]) -> dict[str, object]:
    values = one.statistics
    counts, edges = values.histogram()
    numbers = {"mean": values.mean, "std": values.std, "min": values.minimum, "max": values.maximum}
    found = {str(share): values.quantile(share) for share in quantiles}
    return {
        "layer": one.layer,
        "type": one.kind,
        "part": one.part,
        "shapes": [list(shape) for shape in one.shapes],
        "count": values.count,
        "nan": values.num_nan,
        "infinite": values.num_infinite,
        "zeros": values.zeros,
        **without_nan(numbers),
        "quantiles": without_nan(found) if not math.isnan(values.mean) else {},
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
        "files": files,
    }
