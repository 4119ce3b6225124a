"""`cutaway inspect …`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.pictures import Decoded, decoded, picture_files, refuse_broken
from cutaway.cli.terminal import as_percent, bars, console, one_line, say, say_json, without_nan
from cutaway.errors import InspectionError, SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.datasets import Dataset
    from cutaway.inspect.histograms import Histogram
    from cutaway.preprocessing.spec import Pixels

TableForm = Literal["rich", "json", "csv", "md"]
_AT_A_TIME = 8
_SMALLEST_OVERLAY = 224


@dataclass(frozen=True)
class LayersOptions:
    """Print the per-layer table of a bundle's network."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    batch_size: int = 1
    """Pictures that shapes, MACs and memory are counted for."""
    nested: bool = False
    """Show the modules as a tree."""
    format: TableForm = "rich"
    """How to print it."""
    json: bool = False
    """The same as --format json."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""


@dataclass(frozen=True)
class CamOptions:
    """Write Grad-CAM overlays of pictures."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    images: list[str]
    """Picture files, folders and patterns."""
    out: Path = Path("cam")
    """Directory for the overlays."""
    label: str | None = None
    """Class to explain; by default each picture's top class."""
    target_layer: str | None = None
    """Layer to read the maps at; found by default."""
    opacity: float = 0.5
    """Of the heat-map over the picture."""
    json: bool = False
    """Print JSON."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""


@dataclass(frozen=True)
class FeaturesOptions:
    """Write the feature maps of a picture, a sheet a layer."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    image: str
    """A picture file."""
    out: Path = Path("features")
    """Directory for the sheets."""
    layers: list[str] | None = None
    """Layers by name or pattern; by default each stage's last."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""


@dataclass(frozen=True)
class HistogramsOptions:
    """Write histograms of a bundle's weights."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    out: Path = Path("histograms")
    """Directory for the picture."""
    json: bool = False
    """Print the numbers as JSON."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""


@dataclass(frozen=True)
class ReportOptions:
    """Write everything that there is to see into one HTML file that needs no network."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    out: Path | None = None
    """The file; by default report/index.html in the run."""
    data: str | None = None
    """Pictures to evaluate on, in place of the run's own data."""
    allow_nan: bool = False
    """Read weights that are NaN or infinite."""


def run_layers(arguments: Sequence[str]) -> None:
    """Prints the table."""
    options = parse(LayersOptions, "inspect layers", arguments)
    if options.batch_size < 1:
        raise SettingsError(f"--batch-size must be at least 1, not {options.batch_size}.")
    from cutaway.checkpoints import restore

    show_layers(
        restore(options.reference, allow_nan=options.allow_nan),
        batch_size=options.batch_size,
        nested=options.nested,
        form="json" if options.json else options.format,
    )


def run_cam(arguments: Sequence[str]) -> None:
    """Writes an overlay for each picture that can be decoded, and then says which cannot."""
    options = parse(CamOptions, "inspect cam", arguments)
    if not 0 <= options.opacity <= 1:
        raise SettingsError(f"--opacity must lie between 0 and 1, not {options.opacity}.")
    from cutaway.checkpoints import restore

    restored = restore(options.reference, allow_nan=options.allow_nan)
    files = picture_files(options.images)
    names = _names(files)
    good: list[Decoded] = []
    broken: list[Decoded] = []

    def chunks() -> Iterable[dict[str, Pixels]]:
        for chunk in decoded(files, "explaining", at_a_time=_AT_A_TIME):
            # Without their pixels, which are needed only until the overlays are there.
            good.extend(replace(found, pixels=None) for found in chunk if found.error is None)
            broken.extend(found for found in chunk if found.error is not None)
            yield {names[found.index]: found.pixels for found in chunk if found.pixels is not None}

    written = cam_overlays(
        restored,
        chunks(),
        options.out,
        label=options.label,
        target_layer=options.target_layer,
        opacity=options.opacity,
    )
    if options.json:
        entries = {
            found.index: {"picture": str(found.file)} | entry for found, entry in zip(good, written, strict=True)
        } | {found.index: {"picture": str(found.file), "error": str(found.error)} for found in broken}
        say_json([entries[index] for index in sorted(entries)])
    else:
        for entry in written:
            empty = "" if entry["has_evidence"] else "; no positive evidence for it at this layer, so the map is empty"
            share = as_percent(float(str(entry["probability"])))
            say(one_line(f"{entry['overlay']}: {entry['label']} {share}{empty}"))
    refuse_broken(broken, len(files))


def run_features(arguments: Sequence[str]) -> None:
    """Writes a sheet of feature maps for each layer."""
    options = parse(FeaturesOptions, "inspect features", arguments)
    from cutaway import images
    from cutaway.checkpoints import restore

    file, *others = picture_files([options.image])
    if others:
        raise InspectionError(
            f"{options.image} stands for {len(others) + 1} pictures, and feature maps are drawn of one.",
            hint=f"Name one, such as {file}.",
        )
    say(
        write_features(
            restore(options.reference, allow_nan=options.allow_nan),
            images.decode(file),
            options.out,
            layers=options.layers,
        )
    )


def run_histograms(arguments: Sequence[str]) -> None:
    """Writes the histograms as one picture."""
    options = parse(HistogramsOptions, "inspect histograms", arguments)
    from cutaway.checkpoints import restore

    restored = restore(options.reference, allow_nan=options.allow_nan)
    if options.json:
        from cutaway.inspect.histograms import weight_histograms

        say_json([_plain(found) for found in weight_histograms(restored.network)])
        return
    say(write_histograms(restored, options.out))


def run_report(arguments: Sequence[str]) -> None:
    """Writes the report."""
    options = parse(ReportOptions, "inspect report", arguments)
    from cutaway.checkpoints import restore
    from cutaway.cli.run_data import data_of

    restored = restore(options.reference, allow_nan=options.allow_nan)
    dataset = data_of(restored, options.data, track=bars)
    say(write_html(restored, dataset, options.out or restored.path.parent.parent / "report" / "index.html"))


def show_layers(
    restored: Restored,
    *,
    batch_size: int = 1,
    nested: bool = False,
    form: Literal["rich", "json", "csv", "md"] = "rich",
) -> None:
    """Prints the per-layer table."""
    from cutaway.inspect import layer_rendering, layer_table

    table = layer_table(restored.network, restored.spec.input_shape, batch_size)
    match form:
        case "rich":
            console().print(layer_rendering.to_rich(table, nested=nested))
        case "json":
            print(layer_rendering.to_json(table))
        case "csv":
            print(layer_rendering.to_csv(table), end="")
        case "md":
            print(layer_rendering.to_markdown(table, nested=nested))


def cam_overlays(
    restored: Restored,
    chunks: Iterable[Mapping[str, Pixels]],
    out: Path,
    *,
    label: str | None = None,
    target_layer: str | None = None,
    opacity: float = 0.5,
) -> list[dict[str, object]]:
    """Writes an overlay for each picture; says for each which class it explains.

    Args:
        restored: Bundle with the network.
        chunks: Pictures by name, a few at a time, uint8 [H, W, 1 or 3] each.
        out: Directory, made where missing.
        label: Class to explain; each picture's top class where None.
        target_layer: Layer to read the maps at; found where None.
        opacity: Of the heat-map over the picture, 0 to 1.
    """
    import numpy as np
    import torch

    from cutaway.heatmaps import overlay
    from cutaway.images import encode_png
    from cutaway.inspect import grad_cam
    from cutaway.inspect.tiles import fitted
    from cutaway.networks.target_layers import find_target_layer
    from cutaway.preprocessing.views import view

    if label is not None and label not in restored.classes:
        raise InspectionError(f"There is no class '{label}'.", hint=f"Classes: {', '.join(restored.classes[:20])}.")
    if not 0 <= opacity <= 1:
        raise InspectionError(f"An opacity lies between 0 and 1, not {opacity}.")
    wanted = -1 if label is None else restored.classes.index(label)
    target = find_target_layer(restored.network, restored.spec.input_shape, target_layer)
    out.mkdir(parents=True, exist_ok=True)
    written: list[dict[str, object]] = []
    for chunk in chunks:
        if not chunk:
            continue
        seen = np.stack([restored.preprocessing.picture(picture) for picture in chunk.values()])
        inputs = torch.from_numpy(restored.preprocessing.normalise(seen))
        activation = grad_cam(restored.network, inputs, target, wanted)
        for index, (name, picture) in enumerate(chunk.items()):
            explained = int(activation.class_index[index])
            under = view(picture, restored.preprocessing)
            if max(under.shape[:2]) < _SMALLEST_OVERLAY:
                under = fitted(under, _SMALLEST_OVERLAY)
            file = out / f"{name}.png"
            file.write_bytes(encode_png(overlay(under, activation.maps[index].numpy(), opacity=opacity)))
            written.append(
                {
                    "overlay": str(file),
                    "label": restored.classes[explained],
                    "probability": float(activation.probabilities[index]),
                    "target_layer": target.name,
                    "has_evidence": bool(activation.has_evidence[index]),
                }
            )
    return written


def write_cams(restored: Restored, pictures: Mapping[str, Pixels], out: Path) -> str:
    """Writes overlays; returns a line on them."""
    names = list(pictures)
    chunks = ({name: pictures[name] for name in names[at : at + _AT_A_TIME]} for at in range(0, len(names), _AT_A_TIME))
    written = cam_overlays(restored, chunks, out)
    return f"{len(written)} Grad-CAM overlays at {written[0]['target_layer']} in {out}"


def write_features(restored: Restored, picture: Pixels, out: Path, *, layers: Sequence[str] | None = None) -> str:
    """Writes a sheet of feature maps for each layer, and the first kernels; returns a line on them."""
    import torch

    from cutaway.inspect.features import feature_maps, first_kernels
    from cutaway.inspect.figures import draw_feature_maps, draw_kernels, png

    seen = restored.preprocessing.picture(picture)[None]
    found = feature_maps(restored.network, torch.from_numpy(restored.preprocessing.normalise(seen)), layers)
    out.mkdir(parents=True, exist_ok=True)
    for number, maps in enumerate(bars(found, "drawing feature maps")):
        (out / f"{number:02d}-{maps.layer.name}.png").write_bytes(png(draw_feature_maps(maps)))
    kernels = first_kernels(restored.network)
    if kernels is not None:
        (out / "kernels.png").write_bytes(png(draw_kernels(kernels)))
    return f"feature maps of {', '.join(maps.layer.name for maps in found)} in {out}"


def write_histograms(restored: Restored, out: Path) -> str:
    """Writes the histograms of the weights as one picture; returns a line on it."""
    from cutaway.inspect.figures import draw_histograms, png
    from cutaway.inspect.histograms import weight_histograms

    out.mkdir(parents=True, exist_ok=True)
    file = out / "weights.png"
    file.write_bytes(png(draw_histograms(weight_histograms(restored.network))))
    return f"histograms of the weights: {file}"


def write_html(restored: Restored, dataset: Dataset, out: Path) -> str:
    """Writes the report; returns a line on it."""
    from cutaway.checkpoints import Run
    from cutaway.datasets import into_memory
    from cutaway.evaluation import evaluate
    from cutaway.inspect.report import write_report
    from cutaway.inspect.report_assembly import assemble_report

    split = "test" if len(dataset.test) else "valid"
    prepared = into_memory(dataset, restored.preprocessing, track=bars)
    answers = evaluate(restored.network, prepared.split(split), restored.preprocessing, track=bars)
    rows = [entry for entry in Run(restored.path.parent.parent).journal() if entry["kind"] == "epoch"]
    data = assemble_report(restored, dataset, answers, split=split, journal=rows, track=bars)
    return f"a report to open in a browser: {write_report(out, data)}"


def _plain(histogram: Histogram) -> dict[str, object]:
    values = {name: getattr(histogram, name) for name in ("mean", "std", "zeros")}
    return {
        "name": histogram.name,
        "shape": histogram.shape,
        "counts": histogram.counts.tolist(),
        "edges": histogram.edges.tolist(),
        "nan": histogram.num_nan,
        "infinite": histogram.num_infinite,
    } | without_nan(values)


def _names(files: Sequence[Path]) -> list[str]:
    """A name for each file's overlay: its own, with a number where two are called the same."""
    names: list[str] = []
    for file in files:
        name, number = file.stem, 1
        while name in names:
            number += 1
            name = f"{file.stem}-{number}"
        names.append(name)
    return names
