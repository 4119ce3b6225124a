"""`cutaway inspect cam`: heat-maps over pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cutaway.cli.arguments import layer_names, parse
from cutaway.cli.inspecting.cam_pictures import AT_A_TIME, CamQuestion, cam_pictures
from cutaway.cli.inspecting.explained_pictures import ExplainedPictures, tell_alone
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import as_percent, bars, one_line, say, say_json
from cutaway.errors import SettingsError
from cutaway.progress import silent


@dataclass(frozen=True)
class CamOptions:
    """Write overlays of which parts of pictures speak for a class, or a sheet of several."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    images: list[str]
    """Picture files, folders and patterns."""
    out: Path = Path("cam")
    """Directory for the overlays, which lie in it as the pictures lie in their folders, and are named after these, the
    class and its probability: a--Coat-93.png."""
    method: tuple[str, ...] = ("grad-cam",)
    """One or several of grad-cam, grad-cam++, hirescam, layercam, xgrad-cam, grad-cam-elementwise, cam (where a linear
    layer follows global average pooling), score-cam and ablation-cam (slow: a pass per channel), and, the same for
    every class, eigen-cam and attention-rollout (ViT)."""
    label: tuple[str, ...] = ()
    """Classes to explain; by default each picture's top class."""
    top: int | None = None
    """Explain each picture's so many top classes."""
    against: str | None = None
    """Explain why the class rather than this one; `runner-up` is the likeliest other class."""
    layers: Annotated[list[str] | None, tyro.conf.arg(aliases=["--target-layer"])] = None
    """Layers to read the maps at, a b or a,b; found by default. Maps of several are fused, each scaled by its strongest
    point."""
    fusion: Literal["mean", "max"] = "mean"
    """Of several layers' maps at each position."""
    smooth: bool = False
    """Average each map over the picture, its mirror image and slightly larger and smaller copies."""
    mirror: bool = True
    """Mirror when smoothing; wrong for writing and digits."""
    sheet: bool = False
    """Write one sheet per picture: the picture, its maps for each class and method, and their colours."""
    raw: bool = False
    """Also write each map as it was computed, as a .npy file."""
    opacity: float = 0.5
    """Of the heat-map over the picture."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print JSON."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_cam(arguments: Sequence[str]) -> None:
    """Writes the maps of each picture that can be decoded, and then says which cannot."""
    options = parse(CamOptions, "inspect cam", arguments)
    if not 0 <= options.opacity <= 1:
        raise SettingsError(f"--opacity must lie between 0 and 1, not {options.opacity}.")
    if options.top is not None and options.label:
        raise SettingsError("--label and --top exclude each other.")
    require_folder(options.out)

    from cutaway.devices import choose_device
    from cutaway.inspect.class_activation import find_method

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)

    # Where a picture takes long, the bar is over its channels.
    is_slow = any(find_method(name).alters_copies for name in options.method)
    pace: dict[str, Any] = {"at_a_time": 1, "track": silent} if is_slow else {"at_a_time": AT_A_TIME}
    pictures = ExplainedPictures(options.images, options.out, **pace)
    question = CamQuestion(
        methods=options.method,
        labels=options.label,
        top=options.top,
        against=options.against,
        layers=layer_names(options.layers),
        fusion=options.fusion,
        smooth=options.smooth,
        mirror=options.mirror,
        opacity=options.opacity,
        sheet=options.sheet,
        raw=options.raw,
    )
    written = cam_pictures(restored, pictures.chunks(), options.out, question, track=bars)
    if options.json:
        say_json(pictures.entries(written))
    else:
        for of_picture in written:
            for line in _sheet_lines(of_picture) if options.sheet else map(_line, of_picture):
                say(one_line(line))
        if written:
            say(_how(written[0]))
    tell_alone(entry for of_picture in written for entry in of_picture)
    pictures.refuse_broken()


def _line(entry: Mapping[str, object]) -> str:
    method = "" if entry["method"] == "grad-cam" else f" by {entry['method']}"
    empty = "" if entry["has_evidence"] else f"; {entry['told']}, so the map is empty"
    return f"{entry['overlay']}: {_class(entry)}{_top(entry)}{method}{empty}"


def _sheet_lines(entries: Sequence[Mapping[str, object]]) -> Iterable[str]:
    """One for the sheet, and one for each map on it that is empty."""
    classes = dict.fromkeys(_class(entry) for entry in entries)
    methods = dict.fromkeys(str(entry["method"]) for entry in entries)
    yield f"{entries[0]['overlay']}: {', '.join(classes)}{_top(entries[0])} by {', '.join(methods)}"
    for entry in entries:
        if not entry["has_evidence"]:
            yield f"{entry['overlay']}: {entry['method']}: {entry['told']}, so the map is empty"


def _how(entries: Sequence[Mapping[str, object]]) -> str:
    """Where each method looked, which is the same for all pictures."""
    from cutaway.inspect.class_activation import find_method

    places = {find_method(str(entry["method"])).title: one_line(str(entry["target_layer"])) for entry in entries}
    return "; ".join(f"{title} at {layer}" for title, layer in places.items()) + "."


def _class(entry: Mapping[str, object]) -> str:
    rather = f" rather than {entry['against']}" if "against" in entry else ""
    return f"{entry['label']} {as_percent(float(str(entry['probability'])))}{rather}"


def _top(entry: Mapping[str, object]) -> str:
    """What the network itself answers, where another class is explained."""
    if entry["label"] == entry["top"]:
        return ""
    return f" (its answer is {entry['top']} {as_percent(float(str(entry['top_probability'])))})"
