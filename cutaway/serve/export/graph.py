"""The modules that become the ONNX graph, written as one would write them without an exporter in mind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cutaway.errors import ExportError
from cutaway.hooks import find_module
from cutaway.inspect.class_activation import Method, speak_for_something
from cutaway.inspect.class_activation.gradient_formulas import map_by
from cutaway.networks.target_layers import TargetLayer
from cutaway.serve.export.features import FeatureLayer, noting


class Explained(nn.Module):
    """A network and its class activation map: [N, C, H, W], class_index [N] -> logits [N, K], map, flag, features.

    It runs as it stands, with autograd; `tracing` turns its backward pass into forward operators.

    Args:
        network: Any classifier in evaluation mode; [N, C, H, W] -> logits [N, K].
        target: Whose output is the map's feature maps.
        method: How the map is computed; one that has a formula.
        layers: Whose outputs are wanted too.
    """

    def __init__(
        self, network: nn.Module, target: TargetLayer, method: Method, layers: Sequence[FeatureLayer] = ()
    ) -> None:
        super().__init__()
        self.network = network
        self.target = target
        self.method = method
        self.layers = tuple(layers)

    def forward(self, inputs: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """Explains class `class_index[n]` of picture n; a negative index means its top class.

        Returns:
            Logits [N, K]; the map, float [N, h, w], zero or above and not normalised; bool [N], whether nothing but
            rounding is in it; and what each of the layers returned.
        """
        leaves: list[Tensor] = []

        def cut(module: nn.Module, arguments: object, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ExportError(
                    f"Target layer '{self.target.name}' returns a {type(output).__name__}, not one tensor.",
                    hint="Choose a layer inside it with --target-layer.",
                )
            # The layer's output becomes the root of the autograd graph, so nothing below it is differentiated. The
            # network goes on with a clone, or an in-place ReLU that follows would change the map.
            leaves.append(output.detach().requires_grad_())
            return leaves[-1].clone()

        handle = self._target_module().register_forward_hook(cut)
        try:
            with torch.enable_grad(), noting(self.network, self.layers) as features:
                logits = self.network(inputs)
        finally:
            handle.remove()
        if len(leaves) != 1:
            raise ExportError(
                f"Target layer '{self.target.name}' is called {len(leaves)} times in one forward pass.",
                hint="Choose a layer that is called once with --target-layer, or export with --no-explain.",
            )
        chosen = torch.where(class_index < 0, logits.argmax(1), class_index)
        one_hot = (torch.arange(logits.shape[1], device=logits.device) == chosen[:, None]).to(logits.dtype)
        gradients = self._gradients(logits, leaves[0], one_hot)
        assert self.method.formula is not None, "find_method gives no other"
        maps = self.target.as_maps(leaves[0].detach())
        heatmap = map_by(self.method.formula, maps, self.target.as_maps(gradients)).relu()
        is_faint = ~speak_for_something(heatmap, logits.detach())
        return logits.detach(), heatmap, is_faint, *(features[layer.name] for layer in self.layers)

    def _target_module(self) -> nn.Module:
        module = find_module(self.network, self.target.name)
        if module is None:
            raise ExportError(f"The network has no layer '{self.target.name}'.")
        return module

    def _gradients(self, logits: Tensor, leaf: Tensor, one_hot: Tensor) -> Tensor:
        if logits.requires_grad:
            (gradients,) = torch.autograd.grad(logits, leaf, grad_outputs=one_hot, allow_unused=True)
            if gradients is not None:
                return gradients
        raise ExportError(
            f"The logits do not depend on target layer '{self.target.name}', or the network cuts off gradients.",
            hint="Choose a layer on the way to the logits with --target-layer, or export with --no-explain.",
        )


class Plain(nn.Module):
    """A network and what some of its layers return: [N, C, H, W] -> logits [N, K], features.

    Args:
        network: As of `Explained`.
        layers: As of `Explained`.
    """

    def __init__(self, network: nn.Module, layers: Sequence[FeatureLayer] = ()) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(layers)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """As of `Explained`, without a map."""
        with noting(self.network, self.layers) as features:
            logits = self.network(inputs)
        return logits, *(features[layer.name] for layer in self.layers)


class Graph(nn.Module):
    """What the file computes: from decoded pixels or normalised inputs to all of its outputs.

    Args:
        answering: `Plain`, or what `tracing` made of an `Explained`.
        preprocess: From decoded pixels to the network's input; None where the input is normalised already.
        temperature: What logits are divided by before the softmax; None where they are not.
    """

    def __init__(self, answering: nn.Module, preprocess: nn.Module | None, temperature: float | None = None) -> None:
        super().__init__()
        self.temperature = temperature
        self.answering = answering
        self.preprocess = preprocess or nn.Identity()

    def forward(self, images: Tensor, class_index: Tensor | None = None) -> tuple[Tensor, ...]:
        """images, class_index [N] where there is a map -> logits, probabilities, and the rest of `output_names`."""
        inputs = self.preprocess(images)
        logits, *others = self.answering(inputs) if class_index is None else self.answering(inputs, class_index)
        divided = logits if self.temperature is None else logits / self.temperature
        return logits, divided.softmax(1), *others


def output_names(target: TargetLayer | None, layers: Sequence[FeatureLayer]) -> tuple[str, ...]:
    """The names of what `Graph` returns, in order."""
    heatmap = () if target is None else ("heatmap", "heatmap_faint")
    return "logits", "probabilities", *heatmap, *(layer.output for layer in layers)
