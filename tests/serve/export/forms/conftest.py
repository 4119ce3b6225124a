"""A graph written by hand in which every part is known, and one real export."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cutaway.serve.export import export_module
from cutaway.serve.metadata import from_properties
from cutaway.serve.onnx_file import properties

# [3, 2]: a third is no number of float16, bfloat16 or int8.
HEAD = np.array([[1 / 3, -2.0], [0.5, 1.0], [-1.0, 0.7]], np.float32)


def handmade_graph(head: np.ndarray = HEAD) -> onnx.ModelProto:
    """The float form of logits = pooled maps @ HEAD, and as heat-map the maps weighted by class 0's row of HEAD.T.

    images [N, 3, 2, 2] -> Relu -> maps -> mean -> Gemm -> logits -> Softmax; the backward pass reads the maps and the
    head's weights twice: as they are, through a Transpose, and as a transposed twin.
    """
    nodes = [
        helper.make_node("Relu", ["images"], ["maps"], "relu"),
        helper.make_node("ReduceMean", ["maps", "axes"], ["pooled"], "pool", keepdims=0),
        helper.make_node("Gemm", ["pooled", "head"], ["logits"], "gemm"),
        helper.make_node("Transpose", ["head"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("Add", ["turned", "twin"], ["doubled"], "add"),
        helper.make_node("Gather", ["doubled", "zero"], ["weights"], "row", axis=0),
        helper.make_node("Reshape", ["weights", "shape"], ["channels"], "reshape"),
        helper.make_node("Mul", ["maps", "channels"], ["weighted"], "weigh"),
        helper.make_node("ReduceSum", ["weighted", "one"], ["summed"], "sum", keepdims=0),
        helper.make_node("Relu", ["summed"], ["heatmap"], "positive"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1),
        # What reads the classes to be explained, so that the input is there.
        helper.make_node("Identity", ["class_index"], ["unused"], "unused"),
    ]
    constants = {
        "head": head.astype(np.float32),
        "twin": np.ascontiguousarray(head.T.astype(np.float32)),
        "axes": np.array([2, 3]),
        "one": np.array([1]),
        "zero": np.array([0]),
        "shape": np.array([1, -1, 1, 1]),
    }
    floats = {"logits": ["N", 2], "probabilities": ["N", 2], "heatmap": ["N", 2, 2]}
    graph = helper.make_graph(
        nodes,
        "handmade",
        [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 2, 2]),
            helper.make_tensor_value_info("class_index", TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in floats.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


@pytest.fixture
def handmade():
    return handmade_graph()


@pytest.fixture(scope="session")
def graph_with():
    """Makes the same graph with another head, [3, 2]."""
    return handmade_graph


@pytest.fixture
def inputs():
    """float32 [4, 3, 2, 2]."""
    return np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)


@pytest.fixture(scope="session")
def exported(lenet, fashion, fashion_preprocessing, pictures, tmp_path_factory):
    """LeNet in fp32, with its heat-map and its first layer's maps, taking pixels."""
    out = tmp_path_factory.mktemp("forms") / "fp32.onnx"
    export_module(lenet, fashion_preprocessing, fashion.classes, out, images=pictures, layers=["conv1"])
    return out


@pytest.fixture(scope="session")
def metadata_of():
    """Reads what a file says of itself."""
    return lambda path: from_properties(properties(path.read_bytes()))
