"""A classifier in parts: its head, which depends on the classes, and its backbone in stages, which does not.

Nothing here knows a network by name. The head is read off a run on shapes: it is the last layer with a weight matrix,
with whatever scales its scores after it. Auxiliary heads, which some networks have in training, are the layers that
return one of the other outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from cutaway.errors import NetworkError
from cutaway.hooks import run_on_shapes, untouched

FEWEST_STAGES = 4


@dataclass(frozen=True)
class Parts:
    """The parts of a classifier, by the names of their modules.

    Attributes:
        head: Modules whose shape depends on the number of classes, auxiliary ones among them.
        auxiliary: The outermost modules that run in training only, such as `AuxLogits`; their ends are in `head`.
        stages: The backbone from the input to the head: of each stage its modules. What belongs to none of them, such
            as a class token, belongs to the first.
        fixed: Parameters that whoever built the network let learn nothing.
    """

    head: tuple[str, ...]
    auxiliary: tuple[str, ...]
    stages: tuple[tuple[str, ...], ...]
    fixed: frozenset[str] = frozenset()

    def stage_of(self, name: str) -> int | None:
        """The number of the stage that a parameter or module belongs to, 0 at the input; None in the head."""
        for prefix in _prefixes(name):
            if prefix in self._places:
                return self._places[prefix]
        return 0

    def is_auxiliary(self, name: str) -> bool:
        """Whether a parameter or module belongs to what runs in training only."""
        return any(prefix in self.auxiliary for prefix in _prefixes(name))

    @cached_property
    def _places(self) -> dict[str, int | None]:
        places: dict[str, int | None] = {name: number for number, stage in enumerate(self.stages) for name in stage}
        return places | dict.fromkeys(self.head)


def find_parts(network: nn.Module, input_shape: tuple[int, int, int], num_classes: int) -> Parts:
    """Tells a classifier's head from its backbone, and the backbone's stages from each other.

    The stages are the network's own parts, in the order in which it defines them. While they are fewer than four, the
    one with the most parameters among those that have parts of their own is replaced with these: a ResNet's are its
    stem and `layer1` to `layer4`, a vision transformer's its patch embedding and its blocks. A part without a weight
    matrix, such as a norm, goes with the one before it.

    Args:
        network: Any classifier of pictures; it is left as it was.
        input_shape: Channels, height and width of its input.
        num_classes: Its number of scores.

    Raises:
        NetworkError: It cannot run on this input, or its last layer does not give `num_classes` scores.
    """
    visits: list[tuple[str, nn.Module, object]] = []
    with untouched(network):
        for name, module in network.named_modules():
            if any(True for _ in module.parameters()) and not any(True for _ in module.children()):
                module.register_forward_hook(lambda module, _, output, name=name: visits.append((name, module, output)))
        returned = list(_tensors(run_on_shapes(network, (2, *input_shape), visits.clear, training=True)))
    head = _head(network, visits, num_classes)
    ends = [name for name, _, output in visits if name not in head and any(output is tensor for tensor in returned)]
    auxiliary = tuple(dict.fromkeys(name.partition(".")[0] for name in ends))
    head = (*head, *ends)
    fixed = frozenset(name for name, parameter in network.named_parameters() if not parameter.requires_grad)
    return Parts(head, auxiliary, _stages(network, head), fixed)


def _head(network: nn.Module, visits: list[tuple[str, nn.Module, object]], num_classes: int) -> tuple[str, ...]:
    head: list[str] = []
    for name, module, _ in reversed(visits):
        head.append(name)
        matrices = [parameter for parameter in module.parameters() if parameter.dim() > 1]
        if matrices:
            if num_classes in (weight.shape[0] for weight in matrices):
                return tuple(reversed(head))
            break
    last = f"its last layer, '{head[-1]}', gives another number" if head else "it has no layer with weights"
    raise NetworkError(
        f"The head of {type(network).__name__} cannot be told from its backbone: {last}.",
        hint=f"Let its last layer be an nn.Linear or nn.Conv2d with {num_classes} outputs.",
    )


def _stages(network: nn.Module, head: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    modules = dict(network.named_modules())
    own = {name: _Part(name, module, frozenset(head)) for name, module in modules.items()}
    parts = [own[name] for name, _ in network.named_children() if own[name].size]
    while len(_joined(parts)) < FEWEST_STAGES:
        whole = [part for part in parts if part.children]
        if not whole:
            break
        largest = max(whole, key=lambda part: part.size)
        at = parts.index(largest)
        parts[at : at + 1] = [own[name] for name in largest.children if own[name].size]
    return tuple(_joined(parts))


class _Part:
    """A module without what of it belongs to the head."""

    def __init__(self, name: str, module: nn.Module, head: frozenset[str]) -> None:
        inside = [
            parameter
            for key, parameter in module.named_parameters(prefix=name)
            if not any(prefix in head for prefix in _prefixes(key))
        ]
        self.name = name
        self.size = sum(parameter.numel() for parameter in inside)
        self.has_matrix = any(parameter.dim() > 1 for parameter in inside)
        self.children = [f"{name}.{child}" for child, _ in module.named_children()]


def _joined(parts: Iterable[_Part]) -> list[tuple[str, ...]]:
    stages: list[tuple[str, ...]] = []
    for part in parts:
        if stages and not part.has_matrix:
            stages[-1] += (part.name,)
        else:
            stages.append((part.name,))
    return stages


def _prefixes(name: str) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a`, and the whole network's empty name."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
