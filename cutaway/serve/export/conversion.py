"""From a module to an ONNX model: standard operators, open dimensions, nothing about the machine that made it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from onnx import ModelProto
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor, nn

from cutaway.errors import ExportError
from cutaway.serve.metadata import Metadata, seal, to_properties

OPSET = 20

# protobuf refuses to write more than 2 GiB; the margin holds the graph beside the weights.
_MAX_WEIGHT_BYTES = 2**31 - 2**25


def convert(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    *,
    open_dimensions: tuple[Mapping[int, str], ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> ModelProto:
    """Exports the module.

    Args:
        graph: In evaluation mode.
        example: Inputs whose shapes are representative; only the shapes matter.
        open_dimensions: For every input, dimension to name (`N`) for those that stay open.
        input_names: In the file.
        output_names: In the file.

    Returns:
        The model, stripped and checked.

    Raises:
        ExportError: The weights are too large for one file, or the result is no valid standard ONNX.
        Exception: Whatever torch raises for a module that it cannot export.
    """
    weights = sum(t.numel() * t.element_size() for t in (*graph.parameters(), *graph.buffers()))
    if weights > _MAX_WEIGHT_BYTES:
        raise ExportError(f"The network has {weights / 2**30:.1f} GiB of weights, and one ONNX file holds 2.")
    dimensions = {name: torch.export.Dim(name) for names in open_dimensions for name in names.values()}
    with warnings.catch_warnings():
        # Said about names of dimensions that the inputs share, which is what we want.
        warnings.filterwarnings("ignore", message=".*axis name: .* will not be used")
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            dynamic_shapes=tuple({i: dimensions[name] for i, name in names.items()} for names in open_dimensions),
            input_names=list(input_names),
            output_names=list(output_names),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns a program"
    # Constants that nothing uses any more would make ONNX Runtime warn at every start.
    RemoveUnusedNodesPass()(program.model)
    model = program.model_proto
    _strip(model)
    _check(model)
    return model


def serialise(model: ModelProto, metadata: Metadata) -> bytes:
    """The bytes of the file: the model with its metadata, sealed; the same for the same model and metadata."""
    onnx.helper.set_model_props(model, to_properties(metadata))
    return seal(model.SerializeToString(deterministic=True))


def _strip(model: ModelProto) -> None:
    """Removes notes that hold paths and stack traces of the machine, which torch writes by default."""
    model.doc_string = ""
    del model.metadata_props[:]
    for function in model.functions:
        _strip_nodes(function)
    _strip_graph(model.graph)


def _strip_graph(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    _strip_nodes(graph)


def _strip_nodes(owner: onnx.GraphProto | onnx.FunctionProto) -> None:
    owner.doc_string = ""
    del owner.metadata_props[:]
    for node in owner.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _strip_graph(graph)


def _check(model: ModelProto) -> None:
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign or model.functions:
        raise ExportError(f"The graph needs operators outside standard ONNX: {', '.join(foreign) or 'functions'}.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error
