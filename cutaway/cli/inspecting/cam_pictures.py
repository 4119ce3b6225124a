"""Class activation maps of pictures, written as overlays or sheets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cutaway.cli.inspecting.explained_pictures import class_index, file_words
from cutaway.cli.terminal import as_percent
from cutaway.errors import InspectionError
from cutaway.progress import Track, silent

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.inspect.class_activation import ClassActivation
    from cutaway.networks.target_layers import TargetLayer
    from cutaway.preprocessing.spec import Pixels

T = TypeVar("T")

AT_A_TIME = 8
RUNNER_UP = "runner-up"
_SMALLEST_OVERLAY = 224


@dataclass(frozen=True)
class CamQuestion:
    """What to show of each picture.

    Attributes:
        methods: Names of methods.
        labels: Classes to explain; each picture's top class where there is none.
        top: Explain each picture's so many top classes instead.
        against: Class to hold the explained ones against, or `RUNNER_UP`.
        layers: Where to read the maps; found where None. Several are fused.
        fusion: How: `mean` or `max`.
        smooth: Average over slightly scaled views.
        mirror: And over mirrored ones.
        opacity: Of the heat-map over the picture, 0 to 1.
        sheet: Write one sheet per picture instead of an overlay per map.
        raw: Also write each map as it was computed, float32 [h, w], as a `.npy` file.
    """

    methods: Sequence[str] = ("grad-cam",)
    labels: Sequence[str] = ()
    top: int | None = None
    against: str | None = None
    layers: Sequence[str] | None = None
    fusion: str = "mean"
    smooth: bool = False
    mirror: bool = True
    opacity: float = 0.5
    sheet: bool = False
    raw: bool = False


def cam_pictures(
    restored: Restored,
    chunks: Iterable[Mapping[str, Pixels]],
    out: Path,
    question: CamQuestion,
    *,
    track: Track = silent,
) -> list[list[dict[str, object]]]:
    """Writes each picture's maps; says for each picture and each of its maps what it shows and where it lies.

    Args:
        restored: Bundle with the network.
        chunks: Pictures by name, which may have folders before it, a few at a time, uint8 [H, W, 1 or 3] each.
        out: Directory, made where missing.
        question: What to show.
        track: Told of each picture by methods that take long.
    """
    import numpy as np
    import torch

    from cutaway.inspect.class_activation import find_method
    from cutaway.inspect.class_activation.smoothing import Smoothing

    methods = [find_method(name) for name in question.methods]
    if not methods or len({method.name for method in methods}) < len(methods):
        raise InspectionError("Name each method once, and at least one.")
    if not 0 <= question.opacity <= 1:
        raise InspectionError(f"An opacity lies between 0 and 1, not {question.opacity}.")
    classes: dict[str, object] = {"top": question.top}
    if question.top is None:
        classes["class_index"] = [[class_index(restored.classes, label) for label in question.labels] or [-1]]
    elif question.labels:
        raise InspectionError("Ask for classes by name or for the top ones, not for both.")
    if question.against is not None:
        if not question.labels and question.against != RUNNER_UP:
            raise InspectionError(
                f"Which class is it that is held against '{question.against}'?",
                hint=f"Name it with --label; only --against {RUNNER_UP} goes with any.",
            )
        if question.against in question.labels:
            raise InspectionError(f"'{question.against}' cannot be held against itself.")
        is_rank = question.against == RUNNER_UP and RUNNER_UP not in restored.classes
        classes["against"] = -1 if is_rank else class_index(restored.classes, question.against)
    smooth = Smoothing(mirror=question.mirror) if question.smooth else False
    targets = _targets(restored, question)
    out.mkdir(parents=True, exist_ok=True)
    written: list[list[dict[str, object]]] = []
    for chunk in chunks:
        if not chunk:
            continue
        seen = np.stack([restored.preprocessing.picture(picture) for picture in chunk.values()])
        inputs = torch.from_numpy(restored.preprocessing.normalise(seen))
        activations = [
            _maps(restored, inputs, method.name, targets, question, classes, smooth, _of(next(iter(chunk)), track))
            for method in methods
        ]
        for index, (name, picture) in enumerate(chunk.items()):
            of_picture = [_only(activation, index) for activation in activations]
            written.append(_write(restored, picture, of_picture, out / name, question))
    return written


def write_cams(restored: Restored, pictures: Mapping[str, Pixels], out: Path) -> str:
    """Writes overlays; returns a line on them."""
    names = list(pictures)
    chunks = ({name: pictures[name] for name in names[at : at + AT_A_TIME]} for at in range(0, len(names), AT_A_TIME))
    written = cam_pictures(restored, chunks, out, CamQuestion())
    return f"{len(written)} Grad-CAM overlays at {written[0][0]['target_layer']} in {out}"


def _of(name: str, track: Track) -> Track:
    """The same, but it says which picture is at work."""

    def told(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        return track(items, f"{name}: {description}", total)

    return told


def _targets(restored: Restored, question: CamQuestion) -> list[TargetLayer] | None:
    """The layers, looked for once; None where a method finds its own."""
    from cutaway.networks.target_layers import find_target_layers

    return list(find_target_layers(restored.network, restored.spec.input_shape, question.layers or [None]))


def _maps(
    restored: Restored,
    inputs: object,
    method: str,
    targets: object,
    question: CamQuestion,
    classes: Mapping[str, object],
    smooth: object,
    track: Track,
) -> ClassActivation:
    from cutaway.inspect import class_activation_maps
    from cutaway.inspect.class_activation import METHODS

    if METHODS[method].reads_one_layer and question.layers is None:
        targets = None
    settings: dict[str, object] = dict(classes) | {"fusion": question.fusion, "smooth": smooth, "track": track}
    return class_activation_maps(restored.network, inputs, method, targets, **settings)  # type: ignore[arg-type]


def _only(activation: ClassActivation, index: int) -> ClassActivation:
    """One picture's maps, [T, h, w], and the rest of it, on the CPU."""
    return replace(
        activation,
        maps=activation.maps[index].float().cpu(),
        logits=activation.logits[index : index + 1].cpu(),
        class_index=activation.class_index[index].cpu(),
        against=None if activation.against is None else activation.against[index].cpu(),
    )


def _write(
    restored: Restored, picture: Pixels, activations: Sequence[ClassActivation], stem: Path, question: CamQuestion
) -> list[dict[str, object]]:
    import numpy as np

    from cutaway.heatmaps import overlay
    from cutaway.images import encode_png
    from cutaway.inspect.tiles import fitted
    from cutaway.preprocessing.views import view

    under = view(picture, restored.preprocessing)
    if max(under.shape[:2]) < _SMALLEST_OVERLAY:
        under = fitted(under, _SMALLEST_OVERLAY)
    entries = [_entry(restored, activation, rank) for rank in _ranks(activations) for activation in activations]
    heatmaps = [activation.maps[rank].numpy() for rank in _ranks(activations) for activation in activations]
    files = [_file(restored, stem, entry, len(entries)) for entry in entries]
    for entry, heatmap, file in zip(entries, heatmaps, files, strict=True):
        entry["overlay"] = f"{stem}.png" if question.sheet else f"{file}.png"
        if question.raw or not question.sheet:
            file.parent.mkdir(parents=True, exist_ok=True)
        if question.raw:
            entry["raw"] = f"{file}.npy"
            np.save(f"{file}.npy", heatmap, allow_pickle=False)
        if not question.sheet:
            # What was told to be empty is not drawn as noise at full strength.
            shown = heatmap if entry["has_evidence"] else np.zeros_like(heatmap)
            Path(f"{file}.png").write_bytes(encode_png(overlay(under, shown, opacity=question.opacity)))
    if question.sheet:
        stem.parent.mkdir(parents=True, exist_ok=True)
        told = [_sheet_words(restored, activation, rank) for rank in _ranks(activations) for activation in activations]
        Path(f"{stem}.png").write_bytes(_sheet(under, entries, told, heatmaps, len(activations), question))
    return entries


def _ranks(activations: Sequence[ClassActivation]) -> range:
    return range(len(activations[0].class_index))


def _entry(restored: Restored, activation: ClassActivation, rank: int) -> dict[str, object]:
    from cutaway.inspect.class_activation import no_evidence

    label = restored.classes[int(activation.class_index[rank])]
    against = None if activation.against is None else restored.classes[int(activation.against[rank])]
    probabilities = activation.logits[0].softmax(0)
    entry: dict[str, object] = {
        "overlay": "",
        "label": label,
        "probability": float(probabilities[activation.class_index[rank]]),
        "top": restored.classes[int(probabilities.argmax())],
        "top_probability": float(probabilities.max()),
        "method": activation.method,
        "target_layer": " + ".join(layer.name for layer in activation.target_layers),
        "has_evidence": bool(activation.has_evidence[rank]),
        "strongest": float(activation.maps[rank].max()),
    }
    if against is not None:
        entry["against"] = against
    if activation.alone is not None:
        entry["alone"] = activation.alone
    if not entry["has_evidence"]:
        entry["told"] = no_evidence(activation, label, against)
    return entry | {"rank": rank + 1}


def _file(restored: Restored, stem: Path, entry: Mapping[str, object], count: int) -> Path:
    """Without its suffix: the picture's own name for its only map, else a file in a folder of that name; and the class.

    Two hyphens stand before the class, which has no two together, so that no two pictures' files are the same.
    """
    label = str(entry["label"])
    said = file_words(label, restored.classes.index(label), float(str(entry["probability"])))
    if count == 1:
        return stem.with_name(f"{stem.name}--{said}")
    return stem / f"{entry['method']}-{entry['rank']}--{said}"


def _sheet_words(restored: Restored, activation: ClassActivation, rank: int) -> tuple[str, str | None]:
    """A map's title, and why it is empty where it is, with numbers for classes that no installed font can write."""
    from cutaway.inspect.canvas import legible
    from cutaway.inspect.class_activation import no_evidence

    index = int(activation.class_index[rank])
    label, against = legible(restored.classes[index], f"class {index}"), None
    title = f"{label} {as_percent(float(activation.logits[0].softmax(0)[index]))}"
    if activation.against is not None:
        other = int(activation.against[rank])
        against = legible(restored.classes[other], f"class {other}")
        title += f", rather than {against}"
    return title, None if bool(activation.has_evidence[rank]) else no_evidence(activation, label, against)


def _sheet(
    under: Pixels,
    entries: Sequence[Mapping[str, object]],
    told: Sequence[tuple[str, str | None]],
    heatmaps: Sequence[object],
    num_methods: int,
    question: CamQuestion,
) -> bytes:
    from cutaway.inspect.canvas import png
    from cutaway.inspect.class_activation import METHODS
    from cutaway.inspect.class_activation.sheets import Sheet, SheetCell, draw_sheet

    cells = [
        SheetCell(heatmap, empty)  # type: ignore[arg-type]
        for (_, empty), heatmap in zip(told, heatmaps, strict=True)
    ]
    titles = [told[at][0] for at in range(0, len(told), num_methods)]
    methods = [METHODS[str(entry["method"])].title for entry in entries[:num_methods]]
    grouped = [cells[at : at + num_methods] for at in range(0, len(cells), num_methods)]
    return png(
        draw_sheet(Sheet(under, methods, titles, grouped, f"read at {entries[0]['target_layer']}", question.opacity))
    )
