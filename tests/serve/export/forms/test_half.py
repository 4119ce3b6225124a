"""Half precision, held to numpy's own rounding."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper

from cutaway.errors import ExportError
from cutaway.serve.export.forms.half import in_half_precision
from cutaway.serve.export.forms.regions import forward_pass, put_back


def in_fp16(model):
    forward = forward_pass(model, "images", (3, 2, 2))
    smaller = put_back(model, "images", *in_half_precision(forward, TensorProto.FLOAT16))
    onnx.checker.check_model(smaller, full_check=True)
    return smaller


@settings(max_examples=20, deadline=None)
@given(head=arrays(np.float32, (3, 2), elements=st.floats(-1000, 1000, width=32)))
def test_weights_are_rounded_as_numpy_rounds_them_for_the_logits_and_for_the_heat_map(graph_with, head):
    session = ort.InferenceSession(in_fp16(graph_with(head)).SerializeToString())
    # Ones and zeros, which nothing rounds, so that a logit is one rounded weight.
    inputs = np.zeros((3, 3, 2, 2), np.float32)
    inputs[range(3), range(3)] = 1
    logits, _, heatmap = session.run(None, {"images": inputs, "class_index": np.full(3, -1)})
    rounded = head.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(logits, rounded)
    # The map weighs by twice class 0's weights: the file's own, not those of float32.
    np.testing.assert_array_equal(heatmap[:, 0, 0], np.maximum(2 * rounded[:, 0], 0))


def test_every_output_is_float32_and_the_softmax_is_computed_in_it(handmade, inputs):
    smaller = in_fp16(handmade)
    assert {value.type.tensor_type.elem_type for value in smaller.graph.output} == {TensorProto.FLOAT}
    logits, probabilities, _ = ort.InferenceSession(smaller.SerializeToString()).run(
        None, {"images": inputs, "class_index": np.full(4, -1)}
    )
    shifted = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(probabilities, shifted / shifted.sum(1, keepdims=True), rtol=1e-6)
    assert [t.data_type for t in smaller.graph.initializer if len(t.dims) == 2] == [TensorProto.FLOAT16]


def test_a_weight_beyond_float16_is_refused_and_not_cut_off(graph_with):
    with pytest.raises(ExportError, match=r"head has values up to 7e\+04, and fp16 ends at 65504"):
        in_fp16(graph_with(np.full((3, 2), 7e4)))


def test_an_infinite_constant_stays_infinite(handmade, inputs):
    """As in the masks of attention."""
    handmade.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(-np.inf), "masked"))
    handmade.graph.node[0].output[0] = "positive.map"
    handmade.graph.node.insert(1, helper.make_node("Max", ["positive.map", "masked"], ["maps"], "mask"))
    smaller = in_fp16(onnx.shape_inference.infer_shapes(handmade))
    held = next(tensor for tensor in smaller.graph.initializer if tensor.name == "masked.half")
    assert np.isneginf(onnx.numpy_helper.to_array(held))


def test_bfloat16_comes_in_an_opset_whose_operators_take_it(handmade):
    forward = forward_pass(handmade, "images", (3, 2, 2))
    smaller, widened = in_half_precision(forward, TensorProto.BFLOAT16)
    onnx.checker.check_model(smaller, full_check=True)
    assert smaller.opset_import[0].version == 22
    assert widened == {"head": "head.float"}
    held = next(tensor for tensor in smaller.graph.initializer if tensor.name == "head.half")
    assert held.data_type == TensorProto.BFLOAT16
    np.testing.assert_allclose(
        onnx.numpy_helper.to_array(held).astype(np.float32), [[1 / 3, -2], [0.5, 1], [-1, 0.7]], rtol=2**-8
    )


def test_what_onnx_defines_in_float32_alone_stays_so(handmade):
    """The scales of a Resize, between two operators in half precision."""
    graph = handmade.graph
    graph.node[0].output[0] = "positive.map"
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(4, np.float32), "scales"))
    graph.node.insert(1, helper.make_node("Resize", ["positive.map", "", "scales"], ["maps"], "resize"))
    smaller = in_fp16(onnx.shape_inference.infer_shapes(handmade))
    assert next(t for t in smaller.graph.initializer if t.name == "scales").data_type == TensorProto.FLOAT
    ort.InferenceSession(smaller.SerializeToString())


def test_a_network_with_branches_is_refused_in_words(handmade):
    value = helper.make_tensor_value_info("picked", TensorProto.FLOAT, ["N", 3, 2, 2])
    branch = helper.make_graph([helper.make_node("Relu", ["images"], ["picked"])], "branch", [], [value])
    handmade.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "condition"))
    chosen = helper.make_node("If", ["condition"], ["maps"], "if", then_branch=branch, else_branch=branch)
    handmade.graph.node[0].CopyFrom(chosen)
    with pytest.raises(ExportError, match=r"has branches \(If\), which cannot be brought to fp16"):
        in_fp16(handmade)
