"""Where a graph is parted, and that putting a forward pass back changes nothing else."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from cutaway.errors import ExportError
from cutaway.serve.export.forms.regions import forward_pass, inputs_of, parts_of, put_back


def answers(model, inputs):
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": inputs, "class_index": np.full(len(inputs), -1)})


def test_a_graph_is_parted_by_what_depends_on_what(handmade):
    parts = parts_of(handmade.graph, "images")
    assert [node.name for node in parts.forward] == ["relu", "pool", "gemm"]
    assert parts.before == []
    assert len(parts.after) == len(handmade.graph.node) - 3


def test_the_forward_pass_alone_gives_what_the_rest_reads(handmade):
    forward = forward_pass(handmade, "images", (3, 2, 2))
    onnx.checker.check_model(forward, full_check=True)
    assert [value.name for value in forward.graph.input] == ["images"]
    assert [value.name for value in forward.graph.output] == ["logits", "maps"]
    assert {tensor.name for tensor in forward.graph.initializer} == {"axes", "head"}


def test_putting_it_back_unchanged_changes_no_answer(handmade, inputs):
    again = put_back(handmade, "images", forward_pass(handmade, "images", (3, 2, 2)), {})
    onnx.checker.check_model(again, full_check=True)
    for ours, theirs in zip(answers(again, inputs), answers(handmade, inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_in_another_form_are_read_widened_by_the_backward_pass_and_carried_once(handmade, inputs):
    forward = forward_pass(handmade, "images", (3, 2, 2))
    held = next(tensor for tensor in forward.graph.initializer if tensor.name == "head")
    held.name = "small"
    next(node for node in forward.graph.node if node.name == "gemm").input[1] = "wide"
    # Three times the weights, so that one sees who reads them.
    three = onnx.numpy_helper.from_array(np.float32(3), "three")
    forward.graph.initializer.append(three)
    forward.graph.node.insert(0, helper.make_node("Mul", ["small", "three"], ["wide"], "widen"))
    model = put_back(handmade, "images", forward, {"head": "wide"})
    onnx.checker.check_model(model, full_check=True)
    logits, _, heatmap = answers(model, inputs)
    before, _, map_before = answers(handmade, inputs)
    np.testing.assert_allclose(logits, 3 * before, rtol=1e-5)
    np.testing.assert_allclose(heatmap, 3 * map_before, rtol=1e-5)
    # The transposed twin is gone too.
    assert [t.name for t in model.graph.initializer if len(t.dims) == 2] == ["small"]


def test_what_a_branch_takes_from_outside_counts_as_read():
    made = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Add", ["outer", "outer"], ["out"])], "branch", [], [made])
    node = helper.make_node("If", ["condition"], ["result"], then_branch=branch, else_branch=branch)
    assert set(inputs_of(node)) == {"condition", "outer"}


def test_a_graph_without_shapes_is_refused_in_words(handmade):
    handmade.graph.ClearField("value_info")
    with pytest.raises(ExportError, match="does not tell the shape of maps"):
        forward_pass(handmade, "images", (3, 2, 2))
