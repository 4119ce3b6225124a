"""8-bit forward passes: how far weights may be off, what stays exact, and that the tools leave nothing behind."""

import logging
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from cutaway.errors import ExportError
from cutaway.serve.export.forms.quantisation import quantised, quantised_dynamically
from cutaway.serve.export.forms.regions import forward_pass, put_back

SHAPE = (3, 2, 2)


def run(model, inputs):
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": inputs, "class_index": np.full(len(inputs), -1)})


def in_int8(model, inputs):
    forward = forward_pass(model, "images", SHAPE)
    smaller = put_back(model, "images", *quantised(forward, [{"images": inputs[:2]}, {"images": inputs[2:]}]))
    onnx.checker.check_model(smaller, full_check=True)
    return smaller


def values(model, kind):
    return [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == kind and len(t.dims) == 2]


def test_weights_have_a_scale_for_each_class_and_seven_bits(handmade, inputs):
    (weights,) = values(in_int8(handmade, inputs), TensorProto.INT8)
    # Columns [1/3, 0.5, -1] and [-2, 1, 0.7], each over its largest value.
    np.testing.assert_array_equal(weights, np.round(64 * np.array([[1 / 3, -1], [0.5, 0.5], [-1, 0.35]])))


@pytest.mark.parametrize("form", ["static", "dynamic"])
def test_logits_and_heat_maps_stay_near_and_the_float_weights_are_gone(handmade, inputs, form):
    if form == "static":
        model = in_int8(handmade, inputs)
    else:
        model = put_back(handmade, "images", *quantised_dynamically(forward_pass(handmade, "images", SHAPE)))
        onnx.checker.check_model(model, full_check=True)
    logits, _, heatmap = run(model, inputs)
    exact, _, exact_map = run(handmade, inputs)
    assert 0 < np.abs(logits - exact).max() < 0.05
    assert 0 < np.abs(heatmap - exact_map).max() < 0.05
    assert values(model, TensorProto.FLOAT) == []
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {TensorProto.FLOAT}


def test_logits_are_not_rounded_to_256_steps(handmade):
    inputs = np.random.default_rng(1).uniform(-1, 1, (500, *SHAPE)).astype(np.float32)
    logits = run(in_int8(handmade, inputs), inputs)[0]
    assert len(np.unique(logits[:, 0])) > 256


def test_logits_are_exact_also_where_something_follows_the_last_layer(handmade):
    gemm = next(node for node in handmade.graph.node if node.name == "gemm")
    gemm.output[0] = "last"
    handmade.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -1]), "flat"))
    at = list(handmade.graph.node).index(gemm) + 1
    handmade.graph.node.insert(at, helper.make_node("Reshape", ["last", "flat"], ["logits"], "flatten"))
    model = onnx.shape_inference.infer_shapes(handmade)
    inputs = np.random.default_rng(1).uniform(-1, 1, (500, *SHAPE)).astype(np.float32)
    assert len(np.unique(run(in_int8(model, inputs), inputs)[0][:, 0])) > 256


def test_a_feature_map_behind_the_last_layer_is_left_exact_under_its_own_name(handmade, inputs):
    """As SqueezeNet ends: the last layer, a ReLU that the heat-map reads too, a pooling, the logits."""
    relu = handmade.graph.node[0]
    relu.input[0] = "scaled"
    weights = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    handmade.graph.initializer.append(onnx.numpy_helper.from_array(weights, "layer"))
    handmade.graph.node.insert(0, helper.make_node("Conv", ["images", "layer"], ["scaled"], "conv"))
    gemm = next(node for node in handmade.graph.node if node.name == "gemm")
    gemm.op_type = "Einsum"  # no layer to the tools, so that it is the convolution that comes last
    gemm.attribute.append(helper.make_attribute("equation", "nc,ck->nk"))
    model = in_int8(onnx.shape_inference.infer_shapes(handmade), inputs)
    logits, _, heatmap = run(model, inputs)
    exact, _, exact_map = run(handmade, inputs)
    np.testing.assert_allclose(logits, exact, atol=0.05)
    np.testing.assert_allclose(heatmap, exact_map, atol=0.05)
    # The picture is rounded on its way into the convolution, and nothing after it.
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == 1
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_the_same_pictures_give_the_same_bytes_and_rounding_in_the_last_bit_does_not_reach_them(handmade, inputs):
    first = in_int8(handmade, inputs).SerializeToString(deterministic=True)
    assert in_int8(handmade, inputs).SerializeToString(deterministic=True) == first
    nudged = np.nextafter(inputs, np.float32(np.inf))
    assert in_int8(handmade, nudged).SerializeToString(deterministic=True) == first
    assert in_int8(handmade, 1.5 * inputs).SerializeToString(deterministic=True) != first


def test_the_tools_say_nothing_and_leave_no_file(handmade, inputs, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    in_int8(handmade, inputs)
    quantised_dynamically(forward_pass(handmade, "images", SHAPE))
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert (logging.root.handlers, logging.root.manager.disable) == (handlers, disabled)


def test_a_network_without_layers_is_refused_in_words(handmade, inputs):
    forward = forward_pass(handmade, "images", SHAPE)
    next(node for node in forward.graph.node if node.op_type == "Gemm").op_type = "Einsum"
    for attempt in (lambda: quantised(forward, [{"images": inputs}]), lambda: quantised_dynamically(forward)):
        with pytest.raises(ExportError, match="no convolution and no linear layer"):
            attempt()
