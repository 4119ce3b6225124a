"""Where a class activation map is read: the last layer whose output is still a map of the picture.

Nothing here knows a network by name. The network is run once on shapes alone and the answer is read off what its
modules returned, which gives the right layer for torchvision's families and for plain sequential networks alike:

- The last map with more than one position, at the outermost module that returns it (`layer4`, not its last ReLU).
- Never what a pooling, flattening or permuting module returns, nor class scores on their way to global pooling.
- Where tokens go through attention (ViT), the input of the last attention: after it, only the class token
  reaches the logits and the other positions have no gradient.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from cutaway.errors import NetworkError
from cutaway.hooks import find_module, named_modules, run_on_shapes, untouched
from cutaway.hooks.restoring import turn
from cutaway.networks.makeup import makeup

Layout = Literal["nchw", "nhwc", "tokens"]

_CHANNELS_FIRST = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm)
_CHANNELS_LAST = (nn.LayerNorm, nn.RMSNorm, nn.Linear)
_REARRANGING = ("pool", "flatten", "permute", "reshape", "rearrange")
_PASSING_ON = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_SEQUENCES = (nn.Conv1d, nn.BatchNorm1d, nn.RNNBase)
MOST_EXTRA_TOKENS = 16
_MOST_KNOWN = 64


@dataclass(frozen=True)
class TargetLayer:
    """A layer whose output is a map of the picture.

    Attributes:
        name: The module's dotted name, without what wrappers such as DataParallel put before it.
        layout: `nchw` [N, C, h, w], `nhwc` [N, h, w, C], or `tokens` [N, extra + h * w, C] with any class or register
            tokens in front.
        grid: Height and width of the map in patches, for `tokens` only.
    """

    name: str
    layout: Layout
    grid: tuple[int, int] | None = None

    def as_maps(self, output: Tensor) -> Tensor:
        """The layer's output, or its gradient, as [N, C, h, w]; tokens in front of the patches are left out."""
        if self.layout == "nchw":
            return output
        if self.layout == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.grid is None:
            raise ValueError("tokens need a grid")
        height, width = self.grid
        patches = output[:, -height * width :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], height, width)


_Question = tuple[tuple[int, ...], tuple[str | None, ...]]
# Of each network its makeup, and what was found while it was made up so. A network may compare itself in its own way.
_known: MutableMapping[nn.Module, tuple[object, dict[_Question, tuple[TargetLayer, ...]]]] = WeakIdKeyDictionary()


def find_target_layer(network: nn.Module, input_shape: tuple[int, int, int], name: str | None = None) -> TargetLayer:
    """Finds the layer to read class activation maps at, or checks the one that is given.

    Args:
        network: Any classifier of pictures; it is left as it was.
        input_shape: Channels, height and width of its input.
        name: A layer's name; the best one if None.

    Returns:
        The layer with the layout of its output.

    Raises:
        NetworkError: The network has no such layer, or its output is no map of the picture; the hint lists layers
            that have one.
    """
    return find_target_layers(network, input_shape, [name])[0]


def find_target_layers(
    network: nn.Module, input_shape: tuple[int, int, int], names: Sequence[str | None]
) -> tuple[TargetLayer, ...]:
    """The same for several layers by one look at the network; None stands for the best one.

    What was found is remembered for as long as the network lives and is made up as it was: looking takes longer than a
    forward pass of a picture.
    """
    question = (tuple(input_shape), tuple(names))
    with turn:
        made_up = makeup(network)
        known = _known.get(network)
        answers = known[1] if known is not None and made_up is not None and known[0] == made_up else {}
        if question not in answers:
            run = _Run(network, input_shape)
            found = tuple(_best(run) if name is None else _checked(run, name) for name in names)
            if made_up is None or run.needed_values:
                return found
            if len(answers) == _MOST_KNOWN:
                answers.clear()
            answers[question] = found
            _known[network] = made_up, answers
        return answers[question]


def spatial_layers(network: nn.Module, input_shape: tuple[int, int, int]) -> tuple[TargetLayer, ...]:
    """All layers that a class activation map can be read at, in the order in which they end."""
    run = _Run(network, input_shape)
    return tuple(run.target(visit) for visit in run.candidates)


def stage_layers(network: nn.Module, input_shape: tuple[int, int, int]) -> tuple[TargetLayer, ...]:
    """For each size that the maps take on the way, the outermost layer that ends last: `relu`, `layer1` … `layer4`."""
    run = _Run(network, input_shape)
    stages: dict[object, _Visit] = {}
    for visit in run.candidates:
        size = run.size(visit) or run.target(visit).grid
        before = stages.get(size)
        if before is None or visit.name.count(".") <= before.name.count("."):
            stages[size] = visit
    return tuple(run.target(visit) for visit in sorted(stages.values(), key=lambda visit: visit.order))


@dataclass(frozen=True)
class _Visit:
    """One call of one module, with its tensors kept so that the same tensor can be recognised again."""

    order: int
    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor | None

    @property
    def is_leaf(self) -> bool:
        return not any(True for _ in self.module.children())

    @property
    def has_parameters(self) -> bool:
        return any(True for _ in self.module.parameters())

    def is_inside(self, other: _Visit) -> bool:
        return self.name.startswith(other.name + ".")


class _Run:
    """What one run of the network shows."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self.network = network
        self.height, self.width = input_shape[1:]
        self.visits, self.num_classes, self.needed_values = _run(network, input_shape)
        self._times = Counter(visit.name for visit in self.visits)
        self._targets: list[TargetLayer | None] = []
        for visit in self.visits:
            self._targets.append(self._target(visit))
        self._rearranged = _rearranged(self.visits)
        first = min((visit.order for visit in self.visits if visit.is_leaf and visit.has_parameters), default=0)
        self.candidates = [
            visit for visit in self.visits if visit.order >= first and visit.name and self._is_candidate(visit)
        ]

    def target(self, visit: _Visit) -> TargetLayer:
        target = self._targets[visit.order]
        assert target is not None
        return target

    def size(self, visit: _Visit) -> tuple[int, int] | None:
        """Height and width of a four-dimensional output."""
        target = self._targets[visit.order]
        if target is None or target.layout == "tokens" or visit.output is None:
            return None
        height, width = target.as_maps(visit.output).shape[2:]
        return int(height), int(width)

    def _is_candidate(self, visit: _Visit) -> bool:
        if self._times[visit.name] > 1 or isinstance(visit.module, _PASSING_ON):
            return False
        return self._targets[visit.order] is not None and id(visit.output) not in self._rearranged

    def _target(self, visit: _Visit) -> TargetLayer | None:
        output = visit.output
        if output is None or not output.is_floating_point():
            return None
        if output.dim() == 4:
            layout = self._layout(visit, output)
            positions = {"nchw": output.shape[2:], "nhwc": output.shape[1:3]}
            if layout is not None and positions[layout].numel() > 1:
                return TargetLayer(visit.name, layout)
        if output.dim() == 3:
            grid = self._grid(visit, output.shape[1])
            if grid is not None:
                return TargetLayer(visit.name, "tokens", grid)
        return None

    def _layout(self, visit: _Visit, output: Tensor) -> Layout | None:
        if isinstance(visit.module, _CHANNELS_FIRST):
            return "nchw"
        first, last = self._fits(*output.shape[2:]), self._fits(*output.shape[1:3])
        # A subclass of LayerNorm may well work on channels first, as torchvision's LayerNorm2d does.
        if type(visit.module) in _CHANNELS_LAST:
            return "nhwc" if last else None
        if first and last:
            inner = [v for v in self.visits[: visit.order] if v.is_leaf and v.output is output]
            if any(type(v.module) in _CHANNELS_LAST for v in inner):
                return "nhwc"
        return "nchw" if first else "nhwc" if last else None

    def _fits(self, height: int, width: int) -> bool:
        """Whether a map of this size has the picture's proportions, give or take one position."""
        if height > self.height or width > self.width:
            return False
        return abs(height * self.width - width * self.height) <= max(self.height, self.width)

    def _grid(self, visit: _Visit, tokens: int) -> tuple[int, int] | None:
        """The patches' grid: that of the last map before the tokens, or else one of the picture's proportions."""
        if isinstance(visit.module, _SEQUENCES):
            return None
        for earlier in reversed(self.visits[: visit.order]):
            size = self.size(earlier)
            if size is not None:
                if size[0] * size[1] <= tokens <= size[0] * size[1] + MOST_EXTRA_TOKENS:
                    return size
                break
        for patches in range(tokens, max(1, tokens - MOST_EXTRA_TOKENS), -1):
            height = round((patches * self.height / self.width) ** 0.5)
            if height and patches % height == 0 and height * self.width == patches // height * self.height:
                return height, patches // height
        return None


def _best(run: _Run) -> TargetLayer:
    found = _before_last_attention(run) or _last_map(run)
    if found is None:
        raise NetworkError(
            f"{type(run.network).__name__} has no layer whose output is a map of the picture with more than one "
            "position.",
            hint="Class activation maps need one: use a larger input, or a network with convolutions or patches.",
        )
    return found


def _last_map(run: _Run) -> TargetLayer | None:
    candidates = _without_class_scores(run)
    if not candidates:
        return None
    last = _not_halfway(run, candidates)
    return run.target(last)


def _without_class_scores(run: _Run) -> list[_Visit]:
    """Leaves out maps with one channel per class that only pooling follows: they are the answer, not features."""
    last_weights = max((v.order for v in run.visits if v.is_leaf and v.has_parameters), default=0)

    def is_scores(visit: _Visit) -> bool:
        assert visit.output is not None
        channels = visit.output.shape[-1 if run.target(visit).layout != "nchw" else 1]
        return channels == run.num_classes and visit.order >= last_weights

    return [visit for visit in run.candidates if not is_scores(visit)] or run.candidates


def _not_halfway(run: _Run, candidates: Sequence[_Visit]) -> _Visit:
    """Steps back from the middle of a stage that ends in a single position to the stage before it, if as fine."""
    last = candidates[-1]
    around = [v for v in run.visits if v.name and last.is_inside(v) and v.order > last.order]
    for stage in sorted(around, key=lambda visit: len(visit.name)):
        before = [v for v in candidates if not v.is_inside(stage) and run.size(v) == run.size(last)]
        if before and stage.output is not None and stage.output.dim() == 4 and stage.output.shape[2:].numel() == 1:
            return before[-1]
    return last


def _before_last_attention(run: _Run) -> TargetLayer | None:
    """The layer that feeds tokens to the last attention, where no map comes after it."""
    maps = [visit.order for visit in run.candidates if run.target(visit).layout != "tokens"]
    for attention in reversed(run.visits):
        kind = type(attention.module).__name__.lower()
        if not ("attention" in kind or "attn" in kind) or "pool" in kind or not attention.inputs:
            continue
        if maps and attention.order < maps[-1]:
            return None
        for visit in reversed(run.candidates):
            if visit.order < attention.order and visit.output is attention.inputs[0]:
                return run.target(visit)
    return None


def _checked(run: _Run, name: str) -> TargetLayer:
    names = [visit.name for visit in run.candidates]
    if name not in names and (asked := find_module(run.network, name)) is not None:
        # Torch's own name of a module in a wrapper, or another name of a shared one.
        name = next((visit.name for visit in run.visits if visit.module is asked), name)
    if name in names:
        return run.target(run.candidates[names.index(name)])
    if find_module(run.network, name) is None:
        near = difflib.get_close_matches(name, names or list(named_modules(run.network)), n=5, cutoff=0.4) or names[-5:]
        raise NetworkError(f"The network has no layer {name!r}.", hint=f"Did you mean {_listed(near)}?")
    times = sum(visit.name == name for visit in run.visits)
    fault = (
        "is never called"
        if times == 0
        else f"is called {times} times"
        if times > 1
        else "returns no map of the picture with more than one position"
    )
    raise NetworkError(
        f"Layer {name!r} cannot be the target layer: it {fault}.",
        hint=f"Layers that can: {_listed(names[-8:])}." if names else "No layer of this network can.",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _rearranged(visits: Sequence[_Visit]) -> set[int]:
    """The outputs that pooling, flattening and permuting modules return, and what parameterless ones make of them."""
    found: set[int] = set()
    for visit in visits:
        kind = type(visit.module).__name__.lower()
        follows = visit.is_leaf and not visit.has_parameters and any(id(tensor) in found for tensor in visit.inputs)
        if any(word in kind for word in _REARRANGING) or follows:
            found.add(id(visit.output))
    return found


def _run(network: nn.Module, input_shape: tuple[int, int, int]) -> tuple[list[_Visit], int | None, bool]:
    """Every call of every module, in the order in which they end, the number of logits, and whether values mattered."""
    visits: list[_Visit] = []
    restarts: list[bool] = []

    def restart() -> None:
        visits.clear()
        restarts.append(True)

    with untouched(network):
        for name, module in named_modules(network).items():
            module.register_forward_hook(_recording(name, visits), with_kwargs=True)
        logits = _first_tensor(run_on_shapes(network, (2, *input_shape), restart))
    return visits, None if logits is None or logits.dim() != 2 else int(logits.shape[1]), bool(restarts)


def _recording(name: str, visits: list[_Visit]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        inputs = tuple(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        kept = output if isinstance(output, Tensor) else None
        visits.append(_Visit(len(visits), name, module, inputs, kept))

    return hook


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, dict):
        output = next(iter(output.values()), None)
    elif isinstance(output, tuple | list):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None
