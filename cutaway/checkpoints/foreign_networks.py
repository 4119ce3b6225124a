"""A network with weights that were stored by another program, or words on why they don't fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor, nn

from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.foreign import ForeignWeights
from cutaway.checkpoints.matching import Described, Matching, describe, fitting, match, render
from cutaway.errors import BundleError, NetworkError
from cutaway.networks import NetworkSpec, OwnCode, build, build_on_meta, has_auxiliary_heads
from cutaway.preprocessing import Preprocessing

_COUNT = ".num_batches_tracked"
_AUXILIARY = frozenset({"aux1", "aux2", "AuxLogits"})
_NAMED = 4


@dataclass(frozen=True)
class Loaded:
    """A network with somebody else's weights.

    Attributes:
        network: In training mode, on the CPU.
        matching: How the weights fit it.
        initial: Names of its tensors that are at their initial values.
        notes: What a person should know of how they were read, a sentence each.
    """

    network: nn.Module = field(repr=False)
    matching: Matching = field(repr=False)
    initial: tuple[str, ...]
    notes: tuple[str, ...]


class WrongOutputsError(BundleError):
    """Weights have another number of outputs than there are labels, and fit otherwise.

    Args:
        message: What is wrong.
        hint: What to do next.
        num_outputs: Of the weights.
    """

    def __init__(self, message: str, *, hint: str, num_outputs: int) -> None:
        super().__init__(message, hint=hint)
        self.num_outputs = num_outputs


def spec_for(
    network: str, classes: Sequence[str], preprocessing: Preprocessing, arguments: Mapping[str, JsonValue]
) -> NetworkSpec:
    """Describes a network with an output for each class.

    Raises:
        NetworkError: It cannot have so few or so many.
    """
    try:
        return NetworkSpec(
            name=network,
            num_classes=len(classes),
            input_shape=preprocessing.input_shape,
            arguments=dict(arguments),
        )
    except ValidationError as error:
        raise NetworkError(f"{network} cannot have {len(classes)} classes.") from error


def load_network(
    spec: NetworkSpec,
    weights: ForeignWeights,
    *,
    own: OwnCode | None = None,
    strip_prefix: str = "",
    partial: bool = False,
    may_be_partial: bool = True,
    seed: int = 0,
    allow_nan: bool = False,
) -> Loaded:
    """Builds a network and puts the weights in; leaves the generators alone.

    Args:
        spec: The network.
        weights: What `read_weights` gave.
        own: Permission to build a person's own network.
        strip_prefix: What the names in the file begin with, besides `module.` and `_orig_mod.`.
        partial: Load what fits and leave the rest at its initial values.
        may_be_partial: Whether a person who is told that the weights don't fit is offered that.
        seed: Of those initial values.
        allow_nan: Take weights that are NaN or infinite as they are.

    Raises:
        WrongOutputsError: They fit but for the number of classes.
        BundleError: The weights don't fit, or are not finite.
        NetworkError: There is no such network, or it would have to run code that was not allowed.
    """
    expected = describe(build_on_meta(spec, own).state_dict())
    names = {name.removeprefix(strip_prefix): name for name in weights.shapes}
    if len(names) < len(weights.shapes):
        raise BundleError(f"Without '{strip_prefix}' some names of {weights.path} are the same.")
    auxiliary = set[str]()
    if has_auxiliary_heads(spec.name) and not spec.arguments.get("aux_logits"):
        auxiliary = {name for name in names if not _AUXILIARY.isdisjoint(name.split("."))}
    found = {name: weights.shapes[there] for name, there in names.items() if name not in auxiliary}
    matching = match(expected, found, convert=True)
    counts = _absent_counts(matching)
    _check(matching, counts, spec, weights, partial, may_be_partial)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(spec, own)
    _load(network, weights, matching, names)
    if not allow_nan:
        check_finite(network.state_dict(), weights.path)
    initial = [gap.name for gap in matching.missing if gap.name not in counts]
    initial += [pair.name for pair in (*matching.wrong_shape, *matching.wrong_type)]
    notes = _notes(weights, matching, counts, initial, seed)
    if auxiliary:
        notes.append(f"{len(auxiliary)} tensors of heads that only training runs were left out.")
    return Loaded(network, matching, tuple(initial), tuple(notes))


def _absent_counts(matching: Matching) -> frozenset[str]:
    """BatchNorm's counts of batches, which PyTorch keeps since 0.4.1 and which no answer depends on."""
    loadable = {pair.name for pair in matching.loadable}
    return frozenset(
        gap.name
        for gap in matching.missing
        if gap.name.endswith(_COUNT) and gap.name.removesuffix(_COUNT) + ".running_mean" in loadable
    )


def _check(
    matching: Matching,
    counts: frozenset[str],
    spec: NetworkSpec,
    weights: ForeignWeights,
    partial: bool,
    may_be_partial: bool,
) -> None:
    """Refuses weights that don't fit, in words where the number of classes is the reason."""
    gaps = len(matching.missing) - len(counts)
    if not (gaps or matching.unexpected or matching.wrong_shape or matching.wrong_type):
        return
    if not matching.loadable:
        raise BundleError(
            f"Nothing in {weights.path} fits {spec.name}.\n{render(matching)}", hint=_hint_on_prefix(matching)
        )
    if partial:
        return
    offer = f"--partial loads {fitting(matching)} and leaves the others at their initial values."
    if not may_be_partial:
        offer = "--network and --network-arguments name what to build, --classes the labels of its outputs."
    outputs = _outputs(matching, spec.num_classes)
    if outputs is not None:
        name, count = outputs
        raise WrongOutputsError(
            f"{weights.path} has {count} outputs (at '{name}') for {spec.num_classes} labels.\n{render(matching)}",
            hint=f"Give the labels of those {count} classes. {'Or ' if may_be_partial else ''}{offer}",
            num_outputs=count,
        )
    raise BundleError(f"{weights.path} does not fit {spec.name}.\n{render(matching)}", hint=offer)


def _outputs(matching: Matching, num_classes: int) -> tuple[str, int] | None:
    """The last layer's name and outputs, where its number of classes is all that keeps its shape from fitting."""
    wrong = matching.wrong_shape
    counts = {pair.found.shape[0] for pair in wrong if pair.found.shape and _is_head(pair.expected, num_classes)}
    same_otherwise = all(
        _is_head(pair.expected, num_classes) and pair.expected.shape[1:] == pair.found.shape[1:] for pair in wrong
    )
    return (wrong[0].name, counts.pop()) if wrong and same_otherwise and len(counts) == 1 else None


def _is_head(described: Described, num_classes: int) -> bool:
    return described.shape[:1] == (num_classes,)


def _hint_on_prefix(matching: Matching) -> str:
    """Names the prefix that would make the names fit, where there is one."""
    for gap in matching.missing:
        for near in gap.nearest:
            if near.endswith(f".{gap.name}"):
                return f"Its names begin otherwise. Try --strip-prefix {near.removesuffix(gap.name)}"
    return "Is it another network's? --network names the one to build."


def _load(network: nn.Module, foreign: ForeignWeights, matching: Matching, names: Mapping[str, str]) -> None:
    own: dict[str, Tensor] = network.state_dict()
    tensors = foreign.read(names[pair.found_name] for pair in matching.loadable)
    with torch.no_grad():
        for pair in matching.loadable:
            own[pair.name].copy_(tensors[names[pair.found_name]])


def _notes(
    foreign: ForeignWeights, matching: Matching, counts: frozenset[str], initial: Sequence[str], seed: int
) -> list[str]:
    notes = []
    if foreign.key:
        others = f" Others are at {_listed(foreign.other_keys)}; --key takes them." if foreign.other_keys else ""
        notes.append(f"The weights are those at '{foreign.key}'.{others}")
    for dtype in sorted({pair.found.dtype for pair in matching.converted}):
        pairs = [pair for pair in matching.converted if pair.found.dtype == dtype]
        notes.append(f"{len(pairs)} tensors were converted from {dtype} to {pairs[0].expected.dtype}.")
    if counts:
        notes.append(
            f"{len(counts)} counts of BatchNorm are not in the file and stand at 0; no answer depends on them."
        )
    if initial:
        notes.append(f"{len(initial)} tensors are at their initial values of seed {seed}: {_listed(initial)}.")
    if matching.unexpected:
        extra = [tensor.name for tensor in matching.unexpected]
        notes.append(f"{len(extra)} tensors have no place in the network and were left out: {_listed(extra)}.")
    if foreign.left_out:
        notes.append(f"No tensors, and left out: {_listed(foreign.left_out)}.")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
