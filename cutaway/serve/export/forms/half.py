"""Half precision: a forward pass whose tensors are float16 or bfloat16, with float32 at its inputs and outputs.

`onnxruntime.transformers.float16` knows float16 alone, and rounds weights beyond its range to its largest number.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cutaway.errors import ExportError
from cutaway.serve.export.conversion import subgraphs

# Below it, most operators take no bfloat16.
_BFLOAT16_OPSET = 22

_Message = TypeVar("_Message", NodeProto, TensorProto)

_NAMES: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}


def in_half_precision(forward: ModelProto, kind: int) -> tuple[ModelProto, dict[str, str]]:
    """Rounds weights and computes in half precision, but for operators that ONNX defines in float32 alone.

    Args:
        forward: Of `forward_pass`.
        kind: TensorProto.FLOAT16 or TensorProto.BFLOAT16.

    Returns:
        The forward pass, and for each rounded weight the tensor that holds it as float32.

    Raises:
        ExportError: A weight is beyond the range of float16, or the network has branches.
    """
    if kind == TensorProto.BFLOAT16 and _opset(forward) < _BFLOAT16_OPSET:
        forward = onnx.version_converter.convert_version(forward, _BFLOAT16_OPSET)
    inferred = onnx.shape_inference.infer_shapes(forward)
    return _Rounding(inferred, kind).result()


class _Rounding:
    """One graph on its way to half precision; every name stays that of the float32 tensor unless both are needed."""

    def __init__(self, model: ModelProto, kind: int) -> None:
        self.model = model
        self.kind = kind
        graph = model.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
        self.types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.halves: dict[str, str] = {}
        self.singles: dict[str, str] = {}
        self.nodes: list[NodeProto] = []

    def result(self) -> tuple[ModelProto, dict[str, str]]:
        graph = self.model.graph
        nodes = [_copy(node) for node in graph.node]
        for node in nodes:
            if subgraphs(node):
                raise ExportError(
                    f"The network has branches ({node.op_type}), which cannot be brought to {_NAMES[self.kind]}.",
                    hint="Export it with --precision fp32.",
                )
            self._round(node)
        widened = {name: self._single(name) for name in self.weights if name in self.halves}
        for name in self.outputs & self.halves.keys():
            self.nodes.append(
                helper.make_node("Cast", [self.halves[name]], [name], f"{name}.float", to=TensorProto.FLOAT)
            )
        rounded = [
            self._rounded(self.weights[name], half) for name, half in self.halves.items() if name in self.weights
        ]
        read = {name for node in self.nodes for name in node.input}
        kept = [_copy(tensor) for name, tensor in self.weights.items() if name in read]
        for field in ("node", "initializer", "value_info"):
            graph.ClearField(field)
        graph.node.extend(self.nodes)
        graph.initializer.extend([*rounded, *kept])
        return self.model, widened

    def _round(self, node: NodeProto) -> None:
        schema = onnx.defs.get_schema(node.op_type, _opset(self.model), node.domain)
        takes = {c.type_param_str: self._tensor in c.allowed_type_strs for c in schema.type_constraints}
        formal = [schema.inputs[min(at, len(schema.inputs) - 1)].type_str for at in range(len(node.input))]
        results = [schema.outputs[min(at, len(schema.outputs) - 1)].type_str for at in range(len(node.output))]
        floats = [self.types.get(name) == TensorProto.FLOAT for name in node.input]
        made = [self.types.get(name) == TensorProto.FLOAT for name in node.output]
        variables = {t for t, is_float in zip((*formal, *results), (*floats, *made), strict=True) if is_float}
        # All of a node's variables or none: an operator computes in one precision.
        half = all(takes.get(t, True) for t in variables)
        for at, name in enumerate(node.input):
            if name and floats[at]:
                node.input[at] = self._half(name) if half and takes.get(formal[at], False) else self._single(name)
        for at, name in enumerate(node.output):
            if name and made[at] and half and takes.get(results[at], False):
                self.halves[name] = node.output[at] = f"{name}.half"
        if half and any(made):
            for attribute in node.attribute:
                self._retype(node, attribute)
            if node.op_type == "ConstantOfShape" and not node.attribute:
                node.attribute.append(helper.make_attribute("value", helper.make_tensor("v", self.kind, [1], [0.0])))
        self.nodes.append(node)

    def _retype(self, node: NodeProto, attribute: AttributeProto) -> None:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = self.kind
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(self._rounded(attribute.t, attribute.t.name))

    def _half(self, name: str) -> str:
        if name not in self.halves:
            self.halves[name] = f"{name}.half"
            if name not in self.weights:
                self.nodes.append(helper.make_node("Cast", [name], [f"{name}.half"], f"{name}.half", to=self.kind))
        return self.halves[name]

    def _single(self, name: str) -> str:
        if name not in self.halves:
            return name
        if name not in self.singles:
            # A weight's own name is free; an output of the graph is cast under its own name at the end.
            self.singles[name] = f"{name}.float"
            self.nodes.append(
                helper.make_node("Cast", [self.halves[name]], [f"{name}.float"], f"{name}.single", to=TensorProto.FLOAT)
            )
        return self.singles[name]

    def _rounded(self, tensor: TensorProto, name: str) -> TensorProto:
        values = numpy_helper.to_array(tensor)
        # Infinities stay what they are, such as those that mask attention.
        largest = np.abs(values[np.isfinite(values)]).max(initial=0)
        if self.kind == TensorProto.FLOAT16 and largest > np.finfo(np.float16).max:
            raise ExportError(
                f"The weight {tensor.name} has values up to {largest:.3g}, and fp16 ends at 65504.",
                hint="Choose another --precision.",
            )
        return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(self.kind)), name)

    @property
    def _tensor(self) -> str:
        return "tensor(float16)" if self.kind == TensorProto.FLOAT16 else "tensor(bfloat16)"


def _opset(model: ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _copy(message: _Message) -> _Message:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
