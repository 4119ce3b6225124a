"""Turns a network with its backward pass into a graph of forward operators, with the batch size left open.

`torch.export` refuses a module that calls autograd (torch 2.15: "fake tensor in the exported program constant's
list"), while `make_fx` records what autograd dispatches. So the explained network is traced with `make_fx` first, on
fake tensors that hold shapes and no data, and the graph is then exported like any module.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from cutaway.hooks import without_attention_fast_path
from cutaway.serve.export.backward import decompositions
from cutaway.serve.export.conversion import one_batch_size
from cutaway.serve.export.graph import Explained


class Traced(nn.Module):
    """A traced `Explained`: the same inputs and outputs, the same parameters under the same names, no autograd."""

    def __init__(self, network: nn.Module, graph: fx.GraphModule) -> None:
        super().__init__()
        self.network = network
        self.graph = graph

    def forward(self, inputs: Tensor, class_index: Tensor) -> tuple[Tensor, ...]:
        """[N, C, H, W], class_index [N] -> what `Explained` gives."""
        return self.graph(*_state(self.network).values(), inputs, class_index)  # type: ignore[no-any-return]


def trace(explained: Explained, inputs: Tensor, class_index: Tensor) -> Traced:
    """Traces the forward and the backward pass.

    Args:
        explained: In evaluation mode.
        inputs: An example, float32 [N, C, H, W] with N of at least 2; only its shape matters.
        class_index: An example, int64 [N].

    Raises:
        ExportError: The batch size would be baked in.
        Exception: Whatever the network raises when it cannot be traced.
    """
    places = _places(explained.network)

    def run(*tensors: Tensor) -> Any:
        *state, images, chosen = tensors
        values = {f"network.{place}": state[index] for place, index in places.items()}
        return functional_call(explained, values, (images, chosen), tie_weights=False)

    # Tensors that a network holds without having registered them are real.
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes = [_fake(tensor, mode) for tensor in _state(explained.network).values()]
    for fake in fakes[: len(list(explained.network.parameters()))]:
        # Frozen or not: with weights that need no gradient `matmul` takes a way that repeats them for every picture
        # (`should_fold` in ATen), and folding those constants took 24 GB for a ViT.
        fake.requires_grad_(fake.is_floating_point())
    arguments = [*fakes, _fake(inputs, mode, open_batch=True), _fake(class_index, mode, open_batch=True)]
    with mode, _traceable_operators():
        graph = make_fx(run, decomposition_table=dict(decompositions()), _allow_non_fake_inputs=True)(*arguments)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    _check_batch_is_open(graph)
    return Traced(explained.network, graph)


@contextmanager
def _traceable_operators() -> Iterator[None]:
    """Chooses, among equivalent ways to compute, those whose backward pass can be written in ONNX."""
    # Without the Python dispatcher composite operators read the batch size as a number, in silence.
    with without_attention_fast_path(), enable_python_dispatcher(), sdpa_kernel(SDPBackend.MATH), _ContiguousPooling():
        yield


class _ContiguousPooling(TorchFunctionMode):
    """Keeps adaptive pooling from restriding its output, as it does for channels-last input (`as_strided_`)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (nn.functional.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d):
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **(kwargs or {}))


def _state(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


def _places(network: nn.Module) -> dict[str, int]:
    """Each place of each module that holds a tensor of the state -> its index there.

    A module with two names is there once: `functional_call`'s own tying would put back into it what it put there
    itself, and the network would have lost its weights.
    """
    index = {id(tensor): at for at, tensor in enumerate(_state(network).values())}
    return {
        f"{name}.{own}" if name else own: index[id(tensor)]
        for name, module in network.named_modules()
        for own, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }


def _fake(tensor: Tensor, mode: FakeTensorMode, *, open_batch: bool = False) -> Tensor:
    sizes = [DimDynamic.STATIC] * tensor.dim()
    if open_batch:
        sizes[0] = DimDynamic.DYNAMIC
    return mode.from_tensor(tensor.detach(), symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))


def _check_batch_is_open(graph: fx.GraphModule) -> None:
    *_, inputs, class_index = (node for node in graph.graph.nodes if node.op == "placeholder")
    (outputs,) = (node for node in graph.graph.nodes if node.op == "output")
    for node in (inputs, class_index, *outputs.args[0]):
        batch = node.meta["val"].shape[0]
        if not isinstance(batch, torch.SymInt) or batch.node.expr.is_number:
            raise one_batch_size(batch)
