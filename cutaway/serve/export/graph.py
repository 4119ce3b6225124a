"""The modules that become the ONNX graph, written as one would write them without an exporter in mind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.errors import ExportError
from cutaway.networks.target_layers import TargetLayer
from cutaway.serve.export.methods import Method


class Explained(nn.Module):
    """A network and its class activation map: [N, C, H, W], class_index [N] -> logits [N, K], heatmap [N, h, w].

    It runs as it stands, with autograd; `tracing` turns its backward pass into forward operators.

    Args:
        network: Any classifier in evaluation mode; [N, C, H, W] -> logits [N, K].
        target: Whose output is the map's feature maps.
        method: How the map is computed.
    """

    def __init__(self, network: nn.Module, target: TargetLayer, method: Method) -> None:
        super().__init__()
        self.network = network
        self.target = target
        self.method = method

    def forward(self, inputs: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor]:
        """Explains class `class_index[n]` of picture n; a negative index means its top class."""
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

        handle = self.network.get_submodule(self.target.name).register_forward_hook(cut)
        try:
            with torch.enable_grad():
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
        heatmap = self.method(self.target.as_maps(leaves[0].detach()), self.target.as_maps(gradients))
        return logits.detach(), heatmap

    def _gradients(self, logits: Tensor, leaf: Tensor, one_hot: Tensor) -> Tensor:
        if logits.requires_grad:
            (gradients,) = torch.autograd.grad(logits, leaf, grad_outputs=one_hot, allow_unused=True)
            if gradients is not None:
                return gradients
        raise ExportError(
            f"The logits do not depend on target layer '{self.target.name}', or the network cuts off gradients.",
            hint="Choose a layer on the way to the logits with --target-layer, or export with --no-explain.",
        )


class PlainGraph(nn.Module):
    """images -> logits [N, K], probabilities [N, K].

    Args:
        network: [N, C, h, w] -> logits [N, K].
        preprocess: From decoded pixels to the network's input; None where the input is normalised already.
    """

    output_names = ("logits", "probabilities")

    def __init__(self, network: nn.Module, preprocess: nn.Module | None) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess or nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the file computes."""
        logits = self.network(self.preprocess(images))
        return logits, logits.softmax(1)


class ExplainedGraph(nn.Module):
    """images, class_index [N] -> logits [N, K], probabilities [N, K], heatmap [N, h, w].

    Args:
        explained: `Explained`, or what `tracing` made of it.
        preprocess: As of `PlainGraph`.
    """

    output_names = ("logits", "probabilities", "heatmap")

    def __init__(self, explained: nn.Module, preprocess: nn.Module | None) -> None:
        super().__init__()
        self.explained = explained
        self.preprocess = preprocess or nn.Identity()

    def forward(self, images: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the file computes."""
        logits, heatmap = self.explained(self.preprocess(images), class_index)
        return logits, logits.softmax(1), heatmap
