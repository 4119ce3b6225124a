"""`cutaway inspect channels`: dead and saturated channels over a data set, and the pictures that excite the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from cutaway.cli.arguments import layer_names, parse
from cutaway.cli.file_names import layer_words
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.inspecting.splits import SplitName, split_named
from cutaway.cli.outputs import require_folder
from cutaway.cli.terminal import bars, one_line, say, say_json, say_table
from cutaway.errors import InspectionError, SettingsError

if TYPE_CHECKING:
    from cutaway.inspect.channels import ChannelActivity
    from cutaway.preprocessing.spec import Pixels

_NAMED = 8
_MOST_PICTURES = 100


@dataclass(frozen=True)
class ChannelsOptions:
    """Name the dead, constant and saturated channels of each activation, and show what excites the others."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    data: str | None = None
    """Pictures to look at, in place of the run's own data."""
    split: SplitName | None = None
    """Which of its splits, or all of them; by default test, or valid where there is none."""
    layers: list[str] | None = None
    """Layers and operations by name or pattern, such as layer4.* or '*:relu#*', a b or a,b; by default all
    activations."""
    top: int = 9
    """Pictures shown of each channel; 0 draws no sheets."""
    channels: list[int] | None = None
    """Channels on the sheets; by default the eight most varied of each layer."""
    out: Path = Path("channels")
    """Directory for the sheets, one a layer."""
    batch_size: int = 64
    """Pictures at a time."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print JSON."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_channels(arguments: Sequence[str]) -> None:
    """Prints the table, and writes a sheet for each layer."""
    options = parse(ChannelsOptions, "inspect channels", arguments)
    if options.top < 0 or options.batch_size < 1:
        raise SettingsError("--top must be at least 0, and --batch-size at least 1.")
    if options.top > _MOST_PICTURES:
        raise SettingsError(f"--top must be at most {_MOST_PICTURES}, not {options.top}: a sheet shows them all.")
    require_folder(options.out)
    from cutaway.batches import Feed
    from cutaway.cli.run_data import data_of
    from cutaway.devices import choose_device
    from cutaway.inspect.channels import channel_activity
    from cutaway.inspect.mistakes import seen_picture

    device = choose_device(options.device)
    restored = options.reading.restore(options.reference)
    restored.network.to(device)
    dataset = data_of(restored, options.data, track=bars)
    split = split_named(dataset, options.split)
    feed = Feed(split, restored.preprocessing)
    batches = (feed.inputs(batch) for batch in feed.batches(options.batch_size))
    number = -(-len(split) // options.batch_size)
    looked_at = "all splits" if options.split == "all" else split.name
    layers = layer_names(options.layers)
    found = channel_activity(
        restored.network, bars(batches, f"looking at {looked_at}", number), layers, top=options.top
    )
    picture = partial(seen_picture, split, restored.preprocessing)
    sheets = _sheets(found, picture, options) if options.top else [None] * len(found)
    if options.json:
        say_json([_entry(layer, sheet) for layer, sheet in zip(found, sheets, strict=True)])
        return
    say_table(
        ("layer", "activation", "channels", "zeros", "dead", "constant", "saturated", "not finite"),
        [_row(layer) for layer in found],
        title=one_line(f"{found[0].num_pictures:,} pictures of {dataset.name}, {looked_at}"),
    )
    if any(layer.dead for layer in found):
        say(_how_sure(found[0]))
    if options.top:
        say(f"the pictures that excite channels most in {options.out}")


def _sheets(
    found: Sequence[ChannelActivity], picture: Callable[[int], Pixels], options: ChannelsOptions
) -> list[str | None]:
    from cutaway.inspect.canvas import png
    from cutaway.inspect.channel_figures import draw_top_pictures

    asked = options.channels or None
    if asked is not None:
        wrong = [channel for layer in found for channel in asked if not 0 <= channel < layer.num_channels]
        if wrong:
            raise InspectionError(
                f"There is no channel {wrong[0]} in each of these layers.",
                hint="Name the layers with --layers; the table says how many channels each has.",
            )
    options.out.mkdir(parents=True, exist_ok=True)
    written: list[str | None] = []
    for number, layer in enumerate(bars(found, "drawing channels")):
        file = options.out / f"{number:02d}-{layer_words(layer.layer)}.png"
        file.write_bytes(png(draw_top_pictures(layer, picture, channels=asked)))
        written.append(str(file))
    return written


def _how_sure(layer: ChannelActivity) -> str:
    from cutaway.inspect.channels import FEW_PICTURES

    few = "Few pictures to call a channel dead by: one" if layer.num_pictures < FEW_PICTURES else "A channel"
    more = "; --split all looks at more" if layer.num_pictures < FEW_PICTURES else ""
    return (
        f"{few} that is zero on all {layer.num_pictures:,} may still answer to up to "
        f"{100 * layer.awake_at_most:.2g} % of pictures like these (95 %, rule of three){more}."
    )


def _row(layer: ChannelActivity) -> tuple[object, ...]:
    zeros = float(layer.moments.zeros.mean())
    shares = None if layer.flat is None else layer.flat.tolist()
    named = (
        _named(layer.dead),
        _named(layer.constant),
        _named(layer.saturated, shares),
        _named(layer.not_finite),
    )
    return (one_line(layer.layer), layer.kind, layer.num_channels, f"{zeros:.1%}", *named)


def _named(channels: Sequence[int], shares: Sequence[float] | None = None) -> str:
    """How many channels there are and which, each with its share of values where that says more than all or none."""
    if not channels:
        return "-"
    each = [str(channel) if shares is None else f"{channel} ({shares[channel]:.0%})" for channel in channels[:_NAMED]]
    some = ", ".join(each) + (", …" if len(channels) > _NAMED else "")
    return f"{len(channels)}: {some}"


def _entry(layer: ChannelActivity, sheet: str | None) -> dict[str, object]:
    def numbers(values: Sequence[float]) -> list[float | None]:
        return [value if abs(value) < float("inf") else None for value in values]

    return {
        "layer": layer.layer,
        "activation": layer.kind,
        "num_channels": layer.num_channels,
        "num_pictures": layer.num_pictures,
        "awake_at_most": layer.awake_at_most,
        "dead": layer.dead,
        "constant": layer.constant,
        "saturated": layer.saturated,
        "not_finite": layer.not_finite,
        "silent_share": layer.silent.tolist(),
        "saturated_share": None if layer.flat is None else layer.flat.tolist(),
        "mean": numbers(layer.moments.mean.tolist()),
        "std": numbers(layer.moments.std.tolist()),
        "top": layer.top.tolist(),
        "top_values": [numbers(values) for values in layer.top_values.tolist()],
        "sheet": sheet,
    }
