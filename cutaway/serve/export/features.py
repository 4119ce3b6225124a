"""Feature maps as further outputs of a file: which layers, in which layout, and how they are noted on the way."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import ExportError, NetworkError
from cutaway.hooks import find_module, named_modules, run_on_shapes, untouched
from cutaway.networks.target_layers import TargetLayer, spatial_layers
from cutaway.serve.metadata import Feature, FeatureLayout


@dataclass(frozen=True)
class FeatureLayer:
    """A layer whose output is also an output of the file.

    Attributes:
        name: The module's dotted name.
        target: How its output is read as maps; None where it is no map of the picture.
        shape: Of the output of one picture: [C, h, w] of maps, or whatever it is.
    """

    name: str
    target: TargetLayer | None
    shape: tuple[int, ...]

    @property
    def output(self) -> str:
        """Its name among the file's outputs."""
        return f"features.{self.name}"

    def read(self, output: Tensor) -> Tensor:
        """What the layer returned as the file gives it: float32 [N, C, h, w] of maps, otherwise [N, ...] as it is."""
        values = output if self.target is None else self.target.as_maps(output)
        return values.contiguous().to(torch.promote_types(values.dtype, torch.float32))

    def described(self) -> Feature:
        """For the metadata."""
        layout: FeatureLayout = "as it is" if self.target is None else "maps"
        return Feature(output=self.output, layer=self.name, layout=layout, shape=self.shape)


def find_feature_layers(
    network: nn.Module, input_shape: tuple[int, int, int], names: Sequence[str]
) -> tuple[FeatureLayer, ...]:
    """Looks up layers by name.

    Args:
        network: Any classifier of pictures; it is left as it was.
        input_shape: Channels, height and width of its input.
        names: Of layers, each once.

    Raises:
        NetworkError: There is no such layer; the hint names some that are near.
        ExportError: A layer is named twice, or it does not return one tensor, with one row per picture, in one call.
    """
    if not names:
        return ()
    if len(set(names)) < len(names):
        raise ExportError("A layer is named twice.", hint="Name each layer of --layers once.")
    for name in names:
        if not name or find_module(network, name) is None:
            known = [known for known in named_modules(network) if known]
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[-5:]
            raise NetworkError(
                f"The network has no layer {name!r}.", hint=f"Did you mean {', '.join(map(repr, near))}?"
            )
    maps = {layer.name: layer for layer in spatial_layers(network, input_shape)}
    outputs: dict[str, list[Any]] = {name: [] for name in names}

    def restart() -> None:
        for found in outputs.values():
            found.clear()

    with untouched(network), ExitStack() as hooks:
        for name in names:
            handle = _module(network, name).register_forward_hook(_appending(outputs[name]))
            hooks.callback(handle.remove)
        run_on_shapes(network, (2, *input_shape), restart)
    return tuple(_checked(name, maps.get(name), outputs[name]) for name in names)


@contextmanager
def noting(network: nn.Module, layers: Sequence[FeatureLayer]) -> Iterator[dict[str, Tensor]]:
    """Notes what the layers return while the network runs: name to values as `FeatureLayer.read` gives them."""
    noted: dict[str, Tensor] = {}

    def hook_of(layer: FeatureLayer) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            # A copy, or an in-place ReLU that follows would change it.
            noted[layer.name] = layer.read(output.detach().clone())

        return note

    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(_module(network, layer.name).register_forward_hook(hook_of(layer)).remove)
        yield noted


def _module(network: nn.Module, name: str) -> nn.Module:
    module = find_module(network, name)
    assert module is not None, "layers were looked up before"
    return module


def _appending(outputs: list[Any]) -> Callable[[nn.Module, Any, Any], None]:
    def append(module: nn.Module, args: Any, output: Any) -> None:
        outputs.append(output)

    return append


def _checked(name: str, target: TargetLayer | None, outputs: Sequence[Any]) -> FeatureLayer:
    fault = ""
    if len(outputs) != 1:
        fault = f"is called {len(outputs)} times" if outputs else "is never called"
    elif not isinstance(outputs[0], Tensor):
        fault = f"returns a {type(outputs[0]).__name__}, not one tensor"
    elif outputs[0].dim() < 2 or outputs[0].shape[0] != 2:
        fault = "does not return one row per picture"
    if fault:
        raise ExportError(
            f"Layer {name!r} cannot be an output of the file: it {fault}.",
            hint="Choose a layer inside it or around it with --layers.",
        )
    found = FeatureLayer(name, target, ())
    return FeatureLayer(name, target, tuple(int(side) for side in found.read(outputs[0]).shape[1:]))
