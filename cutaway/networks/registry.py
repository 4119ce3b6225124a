"""From a name to a network. A name and allow-listed arguments are all that a bundle can choose; never code."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cutaway.errors import NetworkError
from cutaway.networks.named_layers import ACTIVATIONS, NORMS
from cutaway.networks.own import OwnCode, is_own
from cutaway.networks.resnet_small import resnet_small
from cutaway.networks.small import alexnet_small, fashion_cnn, fashion_cnn_bn, lenet5, linear, mlp
from cutaway.networks.spec import NetworkSpec
from cutaway.networks.torchvision_models import WITH_AUXILIARY_HEADS, build_torchvision, model_names, usual_size

TORCHVISION = "torchvision:"


@dataclass(frozen=True)
class _Allowed:
    """An argument that settings and bundles may set: a number within a range, or yes or no."""

    kind: type
    lowest: float
    highest: float


@dataclass(frozen=True)
class _OneOf:
    """An argument that settings and bundles may set: one of some names."""

    choices: tuple[str, ...]


_ALLOCATIONS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_Rule = _Allowed | _OneOf
_DROPOUT = _Allowed(float, 0.0, 0.99)
_LAYERS: dict[str, _Rule] = {"activation": _OneOf(tuple(ACTIVATIONS)), "norm": _OneOf(NORMS), "dropout": _DROPOUT}
_WIDTH = _Allowed(int, 1, 1024)
_SMALL: dict[str, tuple[Callable[..., nn.Module], dict[str, _Rule]]] = {
    "linear": (linear, {}),
    "mlp": (mlp, {"hidden": _Allowed(int, 1, 65536), **_LAYERS}),
    "lenet5": (lenet5, _LAYERS),
    "fashion-cnn": (fashion_cnn, _LAYERS),
    "fashion-cnn-bn": (fashion_cnn_bn, _LAYERS),
    "alexnet-small": (alexnet_small, {"width": _WIDTH, **_LAYERS}),
    "resnet-small": (resnet_small, {"width": _WIDTH, **_LAYERS}),
}


def names() -> tuple[str, ...]:
    """Every network that can be built: our small ones, then torchvision's."""
    return (*_SMALL, *(TORCHVISION + model for model in model_names()))


def check_network(spec: NetworkSpec, own: OwnCode | None = None) -> None:
    """Finds out whether `build` would build the network, without memory for its weights where it is one of ours.

    Args:
        spec: What to build.
        own: See `build`.

    Raises:
        NetworkError: The name or an argument is not allowed, or the picture does not fit the network.
    """
    if _is_own(spec, own):
        build(spec, own)
    else:
        _check_runs(build_on_meta(spec), spec)


def build(spec: NetworkSpec, own: OwnCode | None = None) -> nn.Module:
    """Builds the network at random initialisation under torch's global generator, in training mode, on the CPU.

    Args:
        spec: What to build.
        own: A person's own network, or permission to build one.

    Raises:
        NetworkError: The name or an argument is not allowed, or the picture does not fit the network.
    """
    if _is_own(spec, own):
        return (own or OwnCode()).make(spec)
    check_network(spec)
    return _make(spec)


def build_on_meta(spec: NetworkSpec, own: OwnCode | None = None) -> nn.Module:
    """Builds the network's modules and shapes on torch's `meta` device, which takes no memory for weights.

    A person's own network is built as `build` does and then sent there.

    Raises:
        NetworkError: The name or an argument is not allowed.
    """
    if _is_own(spec, own):
        with torch.random.fork_rng(devices=[]):
            return (own or OwnCode()).make(spec).to("meta")
    with _WeightsOnMeta():
        network = _make(spec)
    return network.to("meta")


def has_auxiliary_heads(name: str) -> bool:
    """Whether a network can be built with heads that help in training alone: argument `aux_logits`."""
    return name.startswith(TORCHVISION) and name.removeprefix(TORCHVISION) in WITH_AUXILIARY_HEADS


def usual_image_size(name: str) -> int | None:
    """Side in pixels that a network was designed for; None where it follows the data."""
    return usual_size(name.removeprefix(TORCHVISION)) if name.startswith(TORCHVISION) else None


def _is_own(spec: NetworkSpec, own: OwnCode | None) -> bool:
    return is_own(spec.name) or (own is not None and own.network is not None)


class _WeightsOnMeta(TorchFunctionMode):
    """Sends allocations to `meta`, and leaves alone the arithmetic that some networks do to find their widths.

    `torch.device("meta")` would send that arithmetic there too, and RegNet could no longer read its result.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Redirects one call of torch."""
        kwargs = kwargs or {}
        if func in _ALLOCATIONS:
            kwargs |= {"device": "meta"}
        return func(*args, **kwargs)


def _make(spec: NetworkSpec) -> nn.Module:
    maker, allowed = _maker(spec)
    _check_arguments(spec, allowed)
    try:
        return maker(spec, **spec.arguments)
    except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
        raise NetworkError(f"{spec.name} cannot be built with these arguments: {error}.") from error


def _maker(spec: NetworkSpec) -> tuple[Callable[..., nn.Module], Mapping[str, _Rule]]:
    if spec.name.startswith(TORCHVISION):
        model = spec.name.removeprefix(TORCHVISION)
        auxiliary = {"aux_logits": _Allowed(bool, 0, 1)} if model in WITH_AUXILIARY_HEADS else {}
        return partial(build_torchvision, model=model), {"dropout": _DROPOUT} | auxiliary
    if spec.name in _SMALL:
        return _SMALL[spec.name]
    near = difflib.get_close_matches(spec.name, names(), n=3, cutoff=0.5)
    known = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(_SMALL)} and {TORCHVISION}NAME."
    raise NetworkError(f"There is no network named '{spec.name}'.", hint=known)


def _check_arguments(spec: NetworkSpec, allowed: Mapping[str, _Rule]) -> None:
    for name, value in spec.arguments.items():
        if name not in allowed:
            takes = f"It takes {', '.join(allowed)}." if allowed else "It takes none."
            raise NetworkError(f"{spec.name} has no argument '{name}' that may be set.", hint=takes)
        rule = allowed[name]
        if isinstance(rule, _OneOf):
            if value not in rule.choices:
                raise NetworkError(
                    f"Argument '{name}' of {spec.name} cannot be {value!r}.",
                    hint=f"Choose one of {', '.join(rule.choices)}.",
                )
            continue
        if rule.kind is bool:
            if not isinstance(value, bool):
                raise NetworkError(f"Argument '{name}' of {spec.name} must be true or false, not {value!r}.")
            continue
        number = isinstance(value, rule.kind | int) and not isinstance(value, bool)
        if not number or not rule.lowest <= value <= rule.highest:  # type: ignore[operator]
            raise NetworkError(
                f"Argument '{name}' of {spec.name} must be a number from {rule.lowest} to {rule.highest}, "
                f"not {value!r}."
            )


def _check_runs(network: nn.Module, spec: NetworkSpec) -> None:
    """Sends one picture's shape through a network on `meta`, so that a picture too small is an error in words."""
    try:
        network.eval()(torch.empty(1, *spec.input_shape, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        size = usual_image_size(spec.name)
        channels, height, width = spec.input_shape
        raise NetworkError(
            f"{spec.name} cannot take pictures of {height}x{width} pixels and {channels} channels: {error}.",
            hint=f"Give --image-size {size}." if size else "Give a larger --image-size.",
        ) from error
