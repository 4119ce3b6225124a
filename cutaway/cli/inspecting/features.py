"""`cutaway inspect features`: feature maps of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cutaway.cli.arguments import layer_names, parse
from cutaway.cli.file_names import layer_words
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import require_folder
from cutaway.cli.pictures import Decoded, decoded, names_of, picture_files, refuse_broken, refuse_overwriting
from cutaway.cli.terminal import bars, one_line, say, say_json
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Restored
    from cutaway.preprocessing.spec import Pixels

_AT_A_TIME = 8


@dataclass(frozen=True)
class FeaturesOptions:
    """Write the feature maps of pictures, a sheet a layer."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    images: Annotated[list[str], tyro.conf.arg(aliases=["--image"])]
    """Picture files, folders and patterns."""
    out: Path = Path("features")
    """Directory for the sheets; of several pictures each has a folder in it."""
    layers: list[str] | None = None
    """Layers by name or pattern, a b or a,b; by default each stage's last."""
    rank: Literal["activation", "variance"] = "activation"
    """Order channels by the mean size of their values, or by how much they vary over the picture."""
    scale: Literal["shared", "map"] = "shared"
    """One scale for all channels of a layer, or one for each."""
    limit: int = 32
    """Draw so many channels of each layer."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print JSON: which channels are on which sheet, and how strong they are."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_features(arguments: Sequence[str]) -> None:
    """Writes a sheet of feature maps for each layer, of each picture that can be decoded."""
    options = parse(FeaturesOptions, "inspect features", arguments)
    if options.limit < 1:
        raise SettingsError(f"--limit must be at least 1, not {options.limit}.")
    require_folder(options.out)
    from cutaway.devices import choose_device

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    files = picture_files(options.images)
    names = names_of(files) if len(files) > 1 else [""]
    refuse_overwriting(files, names, options.out)
    broken: list[Decoded] = []
    entries: list[dict[str, object]] = []
    for chunk in decoded(files, "reading feature maps", at_a_time=_AT_A_TIME):
        for found in chunk:
            if found.pixels is None:
                broken.append(found)
                continue
            out = options.out / names[found.index]
            written = _write(restored, found.pixels, out, options)
            entries += [{"picture": str(found.file)} | entry for entry in written]
            if not options.json:
                layers = ", ".join(str(entry["layer"]) for entry in written)
                say(one_line(f"{found.file}: feature maps of {layers} in {out}"))
    if options.json:
        say_json(entries)
    refuse_broken(broken, len(files))


def write_features(restored: Restored, picture: Pixels, out: Path, *, layers: Sequence[str] | None = None) -> str:
    """Writes a sheet of feature maps for each layer, and the first kernels; returns a line on them."""
    from cutaway.inspect.figures import draw_kernels, png
    from cutaway.inspect.kernels import first_kernels

    options = FeaturesOptions("", [], layers=None if layers is None else list(layers))
    written = _write(restored, picture, out, options)
    kernels = first_kernels(restored.network)
    if kernels is not None:
        (out / "kernels.png").write_bytes(png(draw_kernels(kernels)))
    return f"feature maps of {', '.join(str(entry['layer']) for entry in written)} in {out}"


def _write(restored: Restored, picture: Pixels, out: Path, options: FeaturesOptions) -> list[dict[str, object]]:
    import torch

    from cutaway.inspect.features import feature_maps
    from cutaway.inspect.figures import draw_feature_maps, png

    seen = restored.preprocessing.picture(picture)[None]
    found = feature_maps(
        restored.network, torch.from_numpy(restored.preprocessing.normalise(seen)), layer_names(options.layers) or None
    )
    out.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, object]] = []
    for number, maps in enumerate(bars(found, "drawing feature maps")):
        sheet = out / f"{number:02d}-{layer_words(maps.layer.name)}.png"
        figure = draw_feature_maps(maps, limit=options.limit, rank=options.rank, scaled=options.scale)
        sheet.write_bytes(png(figure))
        channels = maps.strongest(0, options.limit, rank=options.rank)
        by = maps.strength if options.rank == "activation" else maps.variance
        entries.append(
            {
                "layer": maps.layer.name,
                "sheet": str(sheet),
                "shape": list(maps.maps.shape[1:]),
                "channels": channels,
                options.rank: [float(by[0, channel]) if by[0, channel].isfinite() else None for channel in channels],
                "silent": maps.silent,
            }
        )
    return entries
