"""Takes a network's forward pass out of an exported graph and puts a smaller one in its place.

What else is in the graph stays as it was: the preprocessing, which computes PIL's integers exactly in float64; the
softmax, which decides between near classes; and the heat-map's backward pass, whose small gradients float16 and int8
would lose. The backward pass reads the weights and feature maps of the smaller network, widened again, so the map
explains the network that is in the file, with the gradient going through each rounding as if it were not there
(Bengio, Léonard and Courville 2013, the straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from cutaway.errors import ExportError
from cutaway.serve.export.conversion import subgraphs


@dataclass(frozen=True)
class Parts:
    """The nodes of a graph, each part in the graph's order.

    Attributes:
        before: What the forward pass is computed from: the preprocessing, and sizes read off the pictures.
        forward: On a way from the network's input to the logits.
        after: The rest: the softmax and the heat-map.
    """

    before: list[NodeProto]
    forward: list[NodeProto]
    after: list[NodeProto]


def parts_of(graph: GraphProto, seam: str) -> Parts:
    """Parts a graph by what depends on what, never by names.

    Args:
        graph: Of an exported file.
        seam: The tensor that is the network's input.
    """
    needed = _ancestors(graph, ["logits"])
    entered, forward = {seam}, set[int]()
    for at, node in enumerate(graph.node):
        if at in needed and entered.intersection(inputs_of(node)):
            forward.add(at)
            entered.update(filter(None, node.output))
    before = _ancestors(graph, {name for at in forward for name in inputs_of(graph.node[at])} | {seam}) - forward
    after = set(range(len(graph.node))) - before - forward
    return Parts(*([graph.node[at] for at in sorted(places)] for places in (before, forward, after)))


def forward_pass(model: ModelProto, seam: str, input_shape: tuple[int, ...]) -> ModelProto:
    """The network alone.

    Args:
        model: An exported graph.
        seam: The tensor that is the network's input.
        input_shape: [C, h, w] of it.

    Returns:
        A graph from the network's input (and sizes that it reads off the pictures) to `logits` and whatever else of
        it the rest of the graph reads.
    """
    parts = parts_of(model.graph, seam)
    made = _made(parts.forward)
    inside = {name for node in parts.forward for name in inputs_of(node)}
    outside = {name for node in parts.after for name in inputs_of(node)} | {value.name for value in model.graph.output}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in inside]
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    known[seam] = onnx.helper.make_tensor_value_info(seam, TensorProto.FLOAT, ["N", *input_shape])
    inputs = sorted(inside - made - {tensor.name for tensor in weights})
    outputs = ["logits", *sorted(made & outside - {"logits"})]
    for name in (*inputs, *outputs):
        if name not in known:
            raise ExportError(f"The exported graph does not tell the shape of {name}.")
    alone = _emptied(model)
    alone.graph.node.extend(parts.forward)
    alone.graph.initializer.extend(weights)
    alone.graph.ClearField("input")
    alone.graph.input.extend(known[name] for name in inputs)
    alone.graph.ClearField("output")
    alone.graph.output.extend(known[name] for name in outputs)
    alone.graph.value_info.extend(_described(model, made - set(outputs)))
    return alone


def put_back(model: ModelProto, seam: str, smaller: ModelProto, widened: Mapping[str, str]) -> ModelProto:
    """Puts a smaller forward pass in place of the graph's own.

    Args:
        model: What `forward_pass` was given.
        seam: The same.
        smaller: What became of its result, with the same outputs in float32.
        widened: Weights that `smaller` holds in another form, and the tensor in it that holds them as float32.
    """
    parts = parts_of(model.graph, seam)
    result = _emptied(model)
    graph = result.graph
    del result.opset_import[:]
    result.opset_import.extend(smaller.opset_import)
    result.ir_version = max(model.ir_version, smaller.ir_version)
    graph.node.extend(parts.before)
    graph.node.extend(smaller.graph.node)
    turned, twins = _twins(model.graph, parts, widened)
    graph.node.extend(turned)
    for node in parts.after:
        copied = graph.node.add()
        copied.CopyFrom(node)
        copied.ClearField("input")
        copied.input.extend(twins.get(name, widened.get(name, name)) for name in node.input)
    held = {tensor.name for tensor in smaller.graph.initializer} | _made(graph.node)
    needed = {name for node in graph.node for name in inputs_of(node)} | {value.name for value in graph.output}
    graph.initializer.extend(tensor for tensor in smaller.graph.initializer if tensor.name in needed)
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed - held)
    shown = {value.name for value in graph.output}
    graph.value_info.extend(_described(model, _made((*parts.before, *parts.after)) - shown))
    return result


def inputs_of(node: NodeProto) -> Iterator[str]:
    """The names of all tensors that a node reads, also those that its subgraphs take from outside."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        own = _made(graph.node) | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        read = [name for inner in graph.node for name in inputs_of(inner)]
        yield from (name for name in (*read, *(value.name for value in graph.output)) if name not in own)


def _twins(graph: GraphProto, parts: Parts, widened: Mapping[str, str]) -> tuple[list[NodeProto], dict[str, str]]:
    """Weights that the exporter carries a second time, transposed, for the backward pass.

    Returns:
        Nodes that transpose the forward pass's own instead, and the name of each twin's result.
    """
    read = {name for node in parts.after for name in inputs_of(node)}
    matrices = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT
    }
    ours = {(matrix.shape, matrix.tobytes()): name for name, matrix in matrices.items() if name in widened}
    nodes, twins = [], {}
    for name, matrix in matrices.items():
        turned = ours.get((matrix.shape[::-1], matrix.T.tobytes()))
        if name in read - widened.keys() and turned is not None:
            twins[name] = f"{name}.turned"
            nodes.append(onnx.helper.make_node("Transpose", [widened[turned]], [twins[name]], twins[name], perm=[1, 0]))
    return nodes, twins


def _ancestors(graph: GraphProto, names: Iterable[str]) -> set[int]:
    """Places of the nodes that any of the tensors is computed with."""
    needed, places = set(names), set()
    for at in reversed(range(len(graph.node))):
        if needed.intersection(graph.node[at].output):
            places.add(at)
            needed.update(inputs_of(graph.node[at]))
    return places


def _made(nodes: Iterable[NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.output if name}


def _described(model: ModelProto, names: set[str]) -> list[ValueInfoProto]:
    return [value for value in model.graph.value_info if value.name in names]


def _emptied(model: ModelProto) -> ModelProto:
    """The same model without nodes, weights and shapes."""
    empty = ModelProto()
    empty.ir_version, empty.producer_name, empty.producer_version = (
        model.ir_version,
        model.producer_name,
        model.producer_version,
    )
    empty.opset_import.extend(model.opset_import)
    empty.graph.name = model.graph.name
    empty.graph.input.extend(model.graph.input)
    empty.graph.output.extend(model.graph.output)
    return empty
