"""What excites each channel over many pictures, and which channels are dead, constant or saturated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError, NetworkError
from cutaway.hooks import Call, ChannelMoments, capture, named_modules, untouched
from cutaway.inspect.intervals import never_seen
from cutaway.inspect.passes import require_batches, require_pictures_alone
from cutaway.networks.target_layers import TargetLayer, spatial_layers

SATURATED = 0.95
"""A channel is saturated where at least this share of its values lies on the flat part of its activation."""

FEW_PICTURES = 300
"""Of fewer, a channel that was zero on all of them may still answer to more than one picture in a hundred."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "prelu": nn.PReLU,
    "rrelu": nn.RReLU,
}
_FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": lambda values: values >= 6,
    "sigmoid": lambda values: (values <= 0.01) | (values >= 0.99),
    "hardsigmoid": lambda values: (values <= 0.01) | (values >= 0.99),
    "tanh": lambda values: values.abs() >= 0.98,
    "hardtanh": lambda values: values.abs() >= 1,
    "hardswish": lambda values: values == 0,
}


@dataclass(frozen=True, eq=False)
class ChannelActivity:
    """One layer's channels over many pictures.

    Attributes:
        layer: The layer's or operation's name; `relu[1]` for the second time that it runs in one forward pass.
        kind: Of its activation, as torch's function is called; its type's name for other layers.
        num_pictures: Pictures that were looked at.
        moments: Of the values of each channel over all pictures and positions.
        silent: float64 [C], the share of pictures on which the channel is zero everywhere.
        flat: float64 [C], the share of values on the flat part of the activation: at most 0.01 or at least 0.99 of a
            sigmoid, at least 0.98 from zero of a tanh, 6 of a ReLU6, 0 of a hardswish; None where it has none.
        top: int64 [C, k], positions of the pictures that excite a channel most, by the largest value in its map.
        top_values: float32 [C, k], those values.
    """

    layer: str
    kind: str
    num_pictures: int
    moments: ChannelMoments
    silent: Tensor
    flat: Tensor | None
    top: Tensor
    top_values: Tensor

    @property
    def num_channels(self) -> int:
        """How many channels the layer has."""
        return len(self.silent)

    @property
    def dead(self) -> list[int]:
        """Channels that are zero everywhere on all pictures."""
        return _where(self.silent == 1)

    @property
    def awake_at_most(self) -> float:
        """The share of pictures like these that a dead channel may yet answer to, at 95 %: about 3 / `num_pictures`."""
        return never_seen(self.num_pictures)

    @property
    def constant(self) -> list[int]:
        """Channels that have one value other than zero everywhere."""
        return _where((self.moments.minimum == self.moments.maximum) & (self.moments.minimum != 0))

    @property
    def saturated(self) -> list[int]:
        """Channels of which at least 95% of the values lie on the flat part of the activation, but are not dead."""
        return [] if self.flat is None else _where((self.flat >= SATURATED) & (self.silent < 1))

    @property
    def not_finite(self) -> list[int]:
        """Channels with NaN or infinite values."""
        return _where((self.moments.num_nan + self.moments.num_infinite) > 0)

    def most_varied(self, limit: int) -> list[int]:
        """The channels whose values spread most, the widest first."""
        order = self.moments.std.nan_to_num(-1.0).argsort(descending=True, stable=True)
        return [int(channel) for channel in order[:limit]]


def channel_activity(
    network: nn.Module,
    batches: Iterable[Tensor],
    layers: str | Iterable[str] | None = None,
    *,
    top: int = 9,
) -> tuple[ChannelActivity, ...]:
    """Looks at every channel over a whole data set, in memory that does not grow with it.

    The network runs in evaluation mode and is left as it was.

    Args:
        network: Any network of pictures.
        batches: float [N, C, H, W] each, preprocessed; moved to the network's device.
        layers: Names or patterns of layers and operations (`*:relu#*`) that return channels; all activations, modules
            and functional ones, if None.
        top: How many of the pictures that excite a channel most are remembered.

    Returns:
        One entry for each layer and each time that it runs in a forward pass, in the order in which they end.

    Raises:
        InspectionError: There are no pictures, one tensor of them or labels beside them, a layer asked for returns no
            channels, or nothing of the kind was found.

    Example:
        >>> for found in channel_activity(network, batches):
        ...     print(found.layer, found.dead)
    """
    require_batches(batches)
    modules = named_modules(network)
    chosen = _activations(modules) if layers is None else layers
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise InspectionError("There are no pictures to look at.", hint="Choose a split that has some.")
    require_pictures_alone(first)
    known = _layouts(network, first)
    observers: dict[str, _Observer] = {}
    seen = 0
    batch: Tensor

    def observe(call: Call) -> None:
        label, kind = call.label, _kind(call.layer, modules)
        if layers is None and ":" in call.layer and kind not in _ACTIVATIONS:
            return
        if label not in observers:
            observers[label] = _Observer(label, kind, known.get(call.layer), top)
        if not observers[label].observe(call.output, batch, seen) and layers is not None:
            raise InspectionError(
                f"Layer {call.layer!r} returns no channels of each picture.",
                hint="Choose layers that return [N, C], [N, C, h, w] or tokens [N, T, C].",
            )

    parameter = next(network.parameters(), None)
    with untouched(network), torch.no_grad():
        network.eval()
        with capture(network, chosen, keep=lambda tensor: tensor, on_call=observe):
            for pictures in chain([first], remaining):
                batch = pictures if parameter is None else pictures.to(parameter.device)
                network(batch)
                seen += len(batch)
    found = tuple(observer.result() for observer in observers.values() if observer.num_pictures == seen)
    if not found:
        raise InspectionError(
            f"{type(network).__name__} ran no layer of this kind.",
            hint="Name layers: `cutaway inspect layers` lists them.",
        )
    return found


class _Observer:
    """One layer while the data passes."""

    def __init__(self, layer: str, kind: str, target: TargetLayer | None, top: int) -> None:
        self.num_pictures = 0
        self._layer = layer
        self._kind = kind
        self._target = target
        self._limit = top
        self._moments = ChannelMoments()
        self._num_silent = torch.zeros(0)
        self._num_flat = torch.zeros(0)
        self._top = torch.zeros(0, 0, dtype=torch.int64)
        self._values = torch.zeros(0, 0)

    def observe(self, output: object, inputs: Tensor, first: int) -> bool:
        if not isinstance(output, Tensor) or not output.is_floating_point() or len(output) != len(inputs):
            return False
        dimension = _channel_dimension(output, inputs, self._target)
        if dimension is None:
            return False
        maps = output.movedim(dimension, 1).flatten(2) if output.dim() > 2 else output[:, :, None]
        if self.num_pictures and maps.shape[1] != self._moments.num_channels:
            return False
        if maps.shape[2] == 0:
            return False
        self._moments.update(maps.transpose(0, 1).flatten(1))
        silent = (maps == 0).all(2).sum(0).cpu().double()
        flat = _FLAT.get(self._kind)
        # Of the mean per picture, so that pictures of several sizes count alike.
        flats = torch.zeros_like(silent) if flat is None else (flat(maps).sum(2).cpu().double() / maps.shape[2]).sum(0)
        values = maps.amax(2).float().nan_to_num(nan=float("-inf")).cpu().T
        places = torch.arange(first, first + len(maps)).expand(values.shape[0], -1)
        if self.num_pictures:
            silent, flats = silent + self._num_silent, flats + self._num_flat
            values, places = torch.cat([self._values, values], 1), torch.cat([self._top, places], 1)
        self._num_silent, self._num_flat = silent, flats
        # Stable, so that of equal pictures the first stay.
        order = values.argsort(dim=1, descending=True, stable=True)[:, : self._limit]
        self._values, self._top = values.gather(1, order), places.gather(1, order)
        self.num_pictures += len(maps)
        return True

    def result(self) -> ChannelActivity:
        return ChannelActivity(
            layer=self._layer,
            kind=self._kind,
            num_pictures=self.num_pictures,
            moments=self._moments,
            silent=self._num_silent / self.num_pictures,
            flat=self._num_flat / self.num_pictures if self._kind in _FLAT else None,
            top=self._top,
            top_values=self._values,
        )


def _activations(modules: dict[str, nn.Module]) -> list[str]:
    """Those that are modules by name, and a pattern of all operations, of which the activations are then taken."""
    found = [name for name, module in modules.items() if name and isinstance(module, tuple(_ACTIVATIONS.values()))]
    return [*found, "*:*"]


def _kind(layer: str, modules: dict[str, nn.Module]) -> str:
    if layer not in modules:
        return layer.rpartition(":")[2].partition("#")[0]
    module = modules[layer]
    # Not by isinstance: ReLU6 is a Hardtanh.
    return next((kind for kind, type_ in _ACTIVATIONS.items() if type(module) is type_), type(module).__name__)


def _layouts(network: nn.Module, batch: Tensor) -> dict[str, TargetLayer]:
    if batch.dim() != 4:
        return {}
    try:
        found = spatial_layers(network, (int(batch.shape[1]), int(batch.shape[2]), int(batch.shape[3])))
    except NetworkError:
        return {}
    return {target.name: target for target in found}


def _channel_dimension(output: Tensor, inputs: Tensor, target: TargetLayer | None) -> int | None:
    """Where the channels are: as the layer is known to have them, or else beside a grid of the picture's shape."""
    if target is not None:
        return 1 if target.layout == "nchw" else output.dim() - 1
    if output.dim() == 2:
        return 1
    if output.dim() == 3:
        return 2
    if output.dim() != 4:
        return None
    if inputs.dim() != 4:
        return 1
    height, width = inputs.shape[2:]

    def fits(rows: int, columns: int) -> bool:
        return abs(rows * width - columns * height) <= max(height, width) and rows <= height and columns <= width

    last = fits(*output.shape[1:3]) and not fits(*output.shape[2:])
    return 3 if last else 1


def _where(mask: Tensor) -> list[int]:
    return [int(channel) for channel in mask.nonzero()[:, 0]]
