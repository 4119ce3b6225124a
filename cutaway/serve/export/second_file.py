"""Weights too large for one ONNX file: into a second one beside it, and out of the way of what cannot take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import onnx
from onnx import ModelProto, TensorProto

from cutaway.serve.external_data import ExternalData

_SMALLEST = 1024  # shape arithmetic and scales stay in the file, where shape inference sees them
_ALIGNMENT = 4096  # that the content can be mapped


def weight_bytes(model: ModelProto) -> int:
    """Bytes of the main graph's tensors; more than the network's, where a transposed copy was folded in."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def move_out(model: ModelProto, file: str) -> list[bytes]:
    """Moves the large tensors of the main graph out of a model.

    Args:
        model: Afterwards its tensors say where in the second file they lie.
        file: Name of the second file.

    Returns:
        The second file's content, in parts, in the order of the tensors.
    """
    parts: list[bytes] = []
    end = 0
    for tensor in model.graph.initializer:
        if not _is_large(tensor):
            continue
        padding = -end % _ALIGNMENT
        content = tensor.raw_data
        parts += [bytes(padding), content] if padding else [content]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", file), ("offset", str(end + padding)), ("length", str(len(content)))):
            tensor.external_data.add(key=key, value=value)
        end += padding + len(content)
    return parts


def described(file: str, content: Sequence[bytes]) -> ExternalData:
    """What the metadata says of the second file."""
    hasher = hashlib.sha256()
    for part in content:
        hasher.update(part)
    return ExternalData(file=file, num_bytes=sum(map(len, content)), sha256=hasher.hexdigest())


def without_large_tensors(model: ModelProto) -> ModelProto:
    """The same graph with its large tensors as inputs: small enough for the checker and for shape inference."""
    light = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = light.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if _is_large(tensor):
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return light


def _is_large(tensor: TensorProto) -> bool:
    return len(tensor.raw_data) >= _SMALLEST
