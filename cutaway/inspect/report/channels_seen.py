"""Section: what excites the channels, and which of them are dead, constant or saturated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect.canvas import pixels
from cutaway.inspect.channel_figures import draw_top_pictures
from cutaway.inspect.channels import FEW_PICTURES, channel_activity
from cutaway.inspect.intervals import never_seen
from cutaway.inspect.report.subject import BATCH, Subject

MOST_PICTURES, TOP, MOST_LAYERS, MOST_NAMED, CHANNELS_DRAWN = 1024, 8, 80, 12, 6
# Of a network's multiply-accumulates: some ten seconds.
_BUDGET = 3e11


@dataclass(frozen=True)
class LayerChannels:
    """One layer: how many channels it has, and which of them are odd, in words."""

    layer: str
    num_channels: int
    dead: str
    constant: str
    saturated: str


def gather(subject: Subject) -> Mapping[str, Any] | None:
    """Looks over pictures spread evenly over the split, as many as can be afforded."""
    affordable = max(BATCH, int(_BUDGET / max(1, subject.table.totals.macs)))
    indices = subject.spread(min(MOST_PICTURES, affordable))
    number = len(indices)
    try:
        found = channel_activity(
            subject.network,
            subject.track(
                (inputs for inputs, _ in subject.batches(indices)), "looking at channels", -(-number // BATCH)
            ),
            top=TOP,
        )
    except (InspectionError, NetworkError):
        return None  # a network without an activation that has channels
    layers = [
        LayerChannels(
            one.layer, one.num_channels, _named(one.dead), _named(one.constant), _named(one.saturated, one.flat)
        )
        for one in found
    ]
    odd = [one for one in layers if one.dead or one.constant or one.saturated]
    last = next((one for one in reversed(found) if len(one.dead) < one.num_channels), None)
    return {
        "num_pictures": number,
        "awake_at_most": f"{100 * never_seen(number):.2g} %",
        "are_few": number < FEW_PICTURES,
        "num_layers": len(layers),
        "num_channels": sum(one.num_channels for one in layers),
        "odd": odd[:MOST_LAYERS],
        "num_odd": len(odd),
        "figure": None
        if last is None
        else pixels(draw_top_pictures(last, lambda index: subject.picture(indices[index]), limit=CHANNELS_DRAWN)),
    }


def _named(channels: list[int], shares: Tensor | None = None) -> str:
    """How many channels there are and which, each with its share of values where that says more than all or none."""
    if not channels:
        return ""
    each = (f"{one}" if shares is None else f"{one} ({float(shares[one]):.0%})" for one in channels[:MOST_NAMED])
    shown = ", ".join(each)
    more = f" and {len(channels) - MOST_NAMED} more" if len(channels) > MOST_NAMED else ""
    return f"{len(channels)}: {shown}{more}"
