"""From a module to an ONNX model: standard operators, open dimensions, nothing about the machine that made it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import onnx
import torch
from onnx import ModelProto
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript import rewriter
from torch import Tensor, nn

from cutaway.errors import ExportError
from cutaway.serve.export.second_file import described, move_out, weight_bytes, without_large_tensors
from cutaway.serve.metadata import Metadata, seal, to_properties

OPSET = 20
OPSETS = range(18, 24)
"""What torch's exporter writes and ONNX Runtime runs, both in the oldest versions that cutaway accepts."""

LARGEST_FILE = 2**31 - 2**25
"""Bytes of weights in one file: protobuf refuses to write more than 2 GiB, and the margin holds the graph."""


class Serialised(NamedTuple):
    """What an export writes.

    Attributes:
        data: The file.
        beside: Content of the files beside it, by name, in parts; empty where the file stands alone.
        metadata: What the file says of itself.
    """

    data: bytes
    beside: dict[str, list[bytes]]
    metadata: Metadata


def convert(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    *,
    open_dimensions: tuple[Mapping[int, str], ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int = OPSET,
) -> ModelProto:
    """Exports the module.

    Args:
        graph: In evaluation mode.
        example: Inputs whose shapes are representative; only the shapes matter.
        open_dimensions: For every input, dimension to name (`N`) for those that stay open.
        input_names: In the file.
        output_names: In the file.
        opset: One of `OPSETS`.

    Returns:
        The model, stripped and checked.

    Raises:
        ExportError: The result is no valid standard ONNX, or only takes the example's batch size.
        Exception: Whatever torch raises for a module that it cannot export.
    """
    dimensions = {name: torch.export.Dim(name) for names in open_dimensions for name in names.values()}
    with warnings.catch_warnings(), _without_pairing_slices(), _forgotten_if_it_fails():
        # Said about names of dimensions that the inputs share, which is what we want.
        warnings.filterwarnings("ignore", message=".*axis name: .* will not be used")
        program = torch.onnx.export(
            graph,
            example,
            dynamo=True,
            dynamic_shapes=tuple({i: dimensions[name] for i, name in names.items()} for names in open_dimensions),
            input_names=list(input_names),
            output_names=list(output_names),
            opset_version=opset,
            verbose=False,
        )
        assert program is not None, "the dynamo exporter returns a program"
        # Constants that nothing uses any more would make ONNX Runtime warn at every start.
        RemoveUnusedNodesPass()(program.model)
        model = program.model_proto
        strip(model)
        _check_batch_is_open(model)
    check(model if weight_bytes(model) <= LARGEST_FILE else without_large_tensors(model))
    return model


@contextmanager
def _without_pairing_slices() -> Iterator[None]:
    """Leaves one rule out of onnxscript's optimiser, whose search is quadratic in the number of slices.

    It makes a Split of two Slices that are halves, which is no faster. Of the 33 seconds that a Swin-T took its search
    was 11, and it found nothing. onnxscript has no public way to choose rules; without this one all of them are tried.
    """
    rules = getattr(rewriter, "_DEFAULT_REWRITE_RULES", ())
    if not rules:
        yield
        return
    vars(rewriter)["_DEFAULT_REWRITE_RULES"] = tuple(rule for rule in rules if rule.name != "SlicesSplit")
    try:
        yield
    finally:
        vars(rewriter)["_DEFAULT_REWRITE_RULES"] = rules


@contextmanager
def _forgotten_if_it_fails() -> Iterator[None]:
    """Clears what torch compiled on the way to a failure.

    The branches of `torch.cond` are compiled and kept. Those of a network that closed the batch dimension would be
    found again for the next one, and close it there.
    """
    try:
        yield
    except Exception:
        torch.compiler.reset()
        raise


def _check_batch_is_open(model: ModelProto) -> None:
    """A dimension that a network needs closed, torch closes in silence."""
    for value in (*model.graph.input, *model.graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        if batch.HasField("dim_value"):
            raise one_batch_size(batch.dim_value)


def one_batch_size(size: object) -> ExportError:
    """The error for a network that only works for one."""
    return ExportError(
        f"The network only works for the batch size it was traced with ({size}).",
        hint="Its forward pass uses a number where it should use x.shape[0], or computes something over the batch.",
    )


def check_opset(opset: int) -> None:
    """Refuses a version of ONNX's operators that is not known to work.

    Raises:
        ExportError: It is none of `OPSETS`.
    """
    if opset not in OPSETS:
        raise ExportError(
            f"Opset {opset} cannot be exported.", hint=f"Choose one from {OPSETS[0]} to {OPSETS[-1]}; {OPSET} is usual."
        )


def serialise(model: ModelProto, metadata: Metadata, name: str, largest_file: int = LARGEST_FILE) -> Serialised:
    """The model with its metadata, sealed; the same bytes for the same model, metadata and name.

    Args:
        model: It loses its large tensors where they go into a second file.
        metadata: Of the file.
        name: Of the file, which the second file's name is made of.
        largest_file: Bytes of weights above which there is a second file.
    """
    content: list[bytes] = []
    data_file = f"{name}.data"
    if weight_bytes(model) > largest_file:
        content = move_out(model, data_file)
        metadata = metadata.model_copy(update={"external_data": described(data_file, content)})
    onnx.helper.set_model_props(model, to_properties(metadata))
    return Serialised(
        seal(model.SerializeToString(deterministic=True)), {data_file: content} if content else {}, metadata
    )


def strip(model: ModelProto) -> None:
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
        for graph in subgraphs(node):
            _strip_graph(graph)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The branches and bodies of a node."""
    return [
        graph
        for attribute in node.attribute
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def check(model: ModelProto) -> None:
    """Refuses a model that is no valid standard ONNX.

    Raises:
        ExportError: It needs other operators, or the checker complains.
    """
    foreign = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign or model.functions:
        raise ExportError(f"The graph needs operators outside standard ONNX: {', '.join(foreign) or 'functions'}.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error
