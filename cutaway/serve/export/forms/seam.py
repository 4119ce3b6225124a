"""Finds the tensor of an exported graph that is the network's input, by what it holds and not by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto

from cutaway.errors import ExportError
from cutaway.serve.metadata import Metadata
from cutaway.serve.sessions import open_session, run

Inputs = npt.NDArray[Any]
"""uint8 [N, H, W, 3] or float32 [N, C, h, w], by the file's form."""

Tensors = dict[str, npt.NDArray[Any]]

# Pictures of this size are resized on two different scales.
_SIZE = (37, 53)


def find_seam(model: ModelProto, metadata: Metadata) -> str:
    """The name of the tensor, float32 [N, C, h, w], that holds a picture after the preprocessing.

    Args:
        model: Of an exported file.
        metadata: Of the same file.

    Raises:
        ExportError: No tensor holds what the metadata's preprocessing gives.
    """
    if metadata.input == "float":
        return "images"
    preprocessing = metadata.preprocessing
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (*_SIZE, 3), dtype=np.uint8) for _ in range(2)]
    expected = preprocessing.normalise(np.stack([preprocessing.picture(picture) for picture in pictures]))
    candidates = _of_shape(model.graph, preprocessing.input_shape)
    found = watch(model, candidates)(np.stack(pictures))
    # The last one that fits, as a network may begin with what changes nothing.
    fitting = [
        name
        for name in candidates
        if found[name].shape == expected.shape and np.allclose(found[name], expected, rtol=1e-5, atol=1e-5)
    ]
    if not fitting:
        raise ExportError("The file's graph does not compute what its preprocessing says.", hint="Export it again.")
    return fitting[-1]


def watch(model: ModelProto, names: Sequence[str]) -> Callable[[Inputs], Tensors]:
    """Opens a graph with tensors inside of it as outputs.

    Returns:
        From `images` as the file takes them to what each tensor holds for them, by name.
    """
    opened = ModelProto()
    opened.CopyFrom(model)
    shown = {value.name for value in opened.graph.output}
    opened.graph.output.extend(value for value in model.graph.value_info if value.name in set(names) - shown)
    session = open_session(opened.SerializeToString(), "cpu", None)
    explains = len(session.get_inputs()) > 1
    wanted = [name for name in names if name != "images"]

    def values(images: Inputs) -> Tensors:
        feeds: Tensors = {"images": images} | ({"class_index": np.full(len(images), -1)} if explains else {})
        given = run(session, wanted, feeds) if wanted else []
        return dict(zip(wanted, given, strict=True)) | ({"images": images} if "images" in names else {})

    return values


def _of_shape(graph: GraphProto, input_shape: tuple[int, ...]) -> list[str]:
    """Tensors that may be [N, C, h, w], in the graph's order."""
    shapes = {
        value.name: [d.dim_value or None for d in value.type.tensor_type.shape.dim]
        for value in graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    made = [name for node in graph.node for name in node.output if len(shapes.get(name, ())) == 4]
    return [
        name
        for name in made
        if all(side in (None, wanted) for side, wanted in zip(shapes[name][1:], input_shape, strict=True))
    ]
