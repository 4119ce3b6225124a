"""Files whose graph was changed a little and sealed again: each is refused by the check that every export runs.

A mutation that this check lets through would be a wrong file that is called done.
"""

import copy
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from cutaway.errors import ExportError
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import compare_file, export_module
from cutaway.serve.metadata import seal

# Some seconds in all, most of them to export the two files that are mutilated.
pytestmark = pytest.mark.slow

CLASSES = ("ant", "bee", "cat", "dog", "eel")
RGB = Preprocessing(
    size=(24, 32),
    resize="shorter",
    resize_to=37,
    interpolation="bicubic",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
PADDED_GREY = Preprocessing(size=(24, 32), resize="pad", fill=100, color="grey3", mean=(0.5,) * 3, std=(0.25,) * 3)


def small_network() -> nn.Module:
    """Whose weights all differ from each other, so that none of the file's tensors stands for two."""
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, 8, 3, padding=1))
    network.add_module("norm", nn.BatchNorm2d(8))
    network.add_module("relu1", nn.ReLU())
    network.add_module("pool", nn.MaxPool2d(2))
    network.add_module("conv2", nn.Conv2d(8, 12, 3, padding=1))
    network.add_module("relu2", nn.ReLU())
    network.add_module("mean", nn.AdaptiveAvgPool2d(1))
    network.add_module("flat", nn.Flatten())
    network.add_module("out", nn.Linear(12, 5))
    with torch.no_grad():
        network.out.weight.mul_(8)
        network.norm.weight.uniform_(0.5, 1.5)
        network.norm.bias.uniform_(-0.5, 0.5)
        network.norm.running_mean.uniform_(-0.5, 0.5)
        network.norm.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return small_network()


@pytest.fixture(scope="module")
def rgb_model(network, tmp_path_factory):
    """With all that a file can have: crop, antialiased resize, a layer's maps, a heat-map, a temperature."""
    out = tmp_path_factory.mktemp("whole") / "rgb.onnx"
    export_module(network, RGB, CLASSES, out, layers=["conv1"], temperature=1.7)
    return onnx.load(out)


@pytest.fixture(scope="module")
def padded_model(network, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "padded.onnx"
    export_module(network, PADDED_GREY, CLASSES, out, explain=False)
    return onnx.load(out)


@pytest.fixture
def compared(network, tmp_path):
    """Seals what was mutilated and compares it with the network."""

    def run(model: onnx.ModelProto, preprocessing: Preprocessing):
        (entry,) = (entry for entry in model.metadata_props if entry.key == "cutaway.sha256")
        entry.value = "0" * 64
        path = tmp_path / "mutilated.onnx"
        path.write_bytes(seal(model.SerializeToString()))
        return compare_file(path, network, preprocessing, CLASSES)

    return run


# What mutations are made of.


def graphs(model):
    """The main graph and the branches of its choices."""
    found = [model.graph]
    for graph in found:
        found += [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found


def nodes(model, op):
    return [node for graph in graphs(model) for node in graph.node if node.op_type == op]


def tensor(model, name):
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def value(model, name):
    """Of a constant; None of what is computed."""
    for found in model.graph.initializer:
        if found.name == name:
            return numpy_helper.to_array(found)
    return None


def change(model, name, to):
    """Puts another value into a constant."""
    found = tensor(model, name)
    array = np.asarray(to, numpy_helper.to_array(found).dtype)
    found.CopyFrom(numpy_helper.from_array(array, name))


def scale(model, name, by):
    change(model, name, value(model, name) * by)


def constants(model, like):
    """Names of the constants that are an array, in type and values."""
    arrays = {found.name: numpy_helper.to_array(found) for found in model.graph.initializer}
    return [name for name, a in arrays.items() if a.dtype == np.asarray(like).dtype and np.array_equal(a, like)]


def maker_of(model, name):
    """The node that computes a value; None of inputs and constants."""
    return next((node for graph in graphs(model) for node in graph.node if name in node.output), None)


def readers_of(model, name):
    return [node for graph in graphs(model) for node in graph.node if name in node.input]


def reroute(nodes_, old, new):
    for node in nodes_:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def drop(model, node):
    """The node hands on its first input."""
    node.CopyFrom(helper.make_node("Identity", [node.input[0]], list(node.output)))


def insert_before(model, node, new):
    at = list(model.graph.node).index(node)
    model.graph.node.insert(at, new)


def attribute(node, name, to):
    (found,) = (found for found in node.attribute if found.name == name)
    found.CopyFrom(helper.make_attribute(name, to))


def add(model, name, array):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return name


WEIGHT1, WEIGHT2 = "answering.network.conv1.weight", "answering.network.conv2.weight"
MEAN, STD, BIAS = "preprocess.mean", "preprocess.std", "answering.network.out.bias"


def head(model):
    """Names of the head's matrix [12, 5] of the forward pass, and [5, 12] of the heat-map."""
    (gemm,) = nodes(model, "Gemm")
    weights = value(model, gemm.input[1])
    (backward,) = constants(model, weights.T)
    return gemm.input[1], backward


def one_weight(model):
    weights = value(model, WEIGHT1).copy()
    weights.flat[np.abs(weights).argmax()] *= 1.05
    change(model, WEIGHT1, weights)


def in_bfloat16(model):
    for name in (WEIGHT1, WEIGHT2):
        change(model, name, torch.from_numpy(value(model, name).copy()).bfloat16().float().numpy())


def swap_mean_and_std(model):
    mean, std = value(model, MEAN), value(model, STD)
    change(model, MEAN, std)
    change(model, STD, mean)


def swap_mean_and_bias_of_the_norm(model):
    (norm,) = nodes(model, "BatchNormalization")
    norm.input[2], norm.input[3] = norm.input[3], norm.input[2]


def swap_channels(model):
    (transpose,) = readers_of(model, "images")[-1:]
    assert transpose.op_type == "Transpose"
    order = add(model, "bgr", np.array([2, 1, 0]))
    insert_before(model, transpose, helper.make_node("Gather", ["images", order], ["swapped"], axis=3))
    transpose.input[0] = "swapped"


def average_in_place_of_maximum(model):
    (pool,) = nodes(model, "MaxPool")
    pool.CopyFrom(
        helper.make_node("AveragePool", list(pool.input), list(pool.output), kernel_shape=[2, 2], strides=[2, 2])
    )


def without_antialiasing(model):
    largest = [node for node in nodes(model, "Max") if value(model, node.input[1]) == 1.0]
    assert len(largest) == 2
    for node in largest:
        node.op_type = "Min"


def other_cubic(model):
    # OpenCV's and PyTorch's bicubic has a = -0.75, PIL's -0.5.
    (a,) = constants(model, np.float64(-0.5))
    change(model, a, -0.75)
    (near, nearer) = constants(model, np.float64(1.5)) + constants(model, np.float64(2.5))
    change(model, near, 1.25)
    change(model, nearer, 2.25)


def to_bilinear(model):
    half_widths = [node for node in nodes(model, "Mul") if value(model, node.input[1]) == 2.0]
    assert len(half_widths) == 2
    for node in half_widths:
        drop(model, node)
    (resizing,) = (
        graph for graph in graphs(model) if any(node.op_type == "Abs" for node in graph.node) and graph != model.graph
    )
    (zero,), (one,) = constants(model, np.float64(0)), constants(model, np.float64(1))
    # For each of the two directions: where(distance < 1, the cubic, ...) becomes max(1 - distance, 0).
    for near in [node for node in resizing.node if node.op_type == "Less" and node.input[1] == one]:
        (weights,) = readers_of(model, near.output[0])
        triangle = f"triangle of {near.input[0]}"
        at = list(resizing.node).index(weights)
        resizing.node.insert(at, helper.make_node("Sub", [one, near.input[0]], [triangle]))
        weights.CopyFrom(helper.make_node("Max", [triangle, zero], list(weights.output)))


def crop_one_off(model, side):
    (places,) = constants(model, np.arange(side))
    change(model, places, np.arange(side) + 1)


def shuffle_classes(model):
    matrix, _ = head(model)
    order = [1, 0, 2, 3, 4]
    change(model, matrix, value(model, matrix)[:, order])
    change(model, BIAS, value(model, BIAS)[order])


def division_by_temperature(model):
    (softmax,) = nodes(model, "Softmax")
    return maker_of(model, softmax.input[0])


def one_channel_of_the_heat_map(model):
    _, matrix = head(model)
    weights = value(model, matrix).copy()
    weights[:, 3] *= 1.5
    change(model, matrix, weights)


def shuffle_channels_of_the_heat_map(model):
    _, matrix = head(model)
    change(model, matrix, np.roll(value(model, matrix), 1, axis=1))


def explain_the_top_class_always(model):
    (chosen,) = (node for node in nodes(model, "Where") if "class_index" in node.input)
    (top,) = nodes(model, "ArgMax")
    chosen.CopyFrom(helper.make_node("Identity", [top.output[0]], list(chosen.output)))


def depend_on_the_batch(model):
    softmax_input = division_by_temperature(model)
    axis = add(model, "batch", np.array([0]))
    insert_before(model, softmax_input, helper.make_node("ReduceMean", ["logits", axis], ["centre"], keepdims=1))
    insert_before(model, softmax_input, helper.make_node("Sub", ["logits", "centre"], ["centred"]))
    softmax_input.input[0] = "centred"


def features_after_the_norm(model):
    (norm,) = nodes(model, "BatchNormalization")
    conv = maker_of(model, "features.conv1")
    conv.output[0], norm.input[0] = "before", "before"
    reroute(readers_of(model, norm.output[0]), norm.output[0], "features.conv1")
    norm.output[0] = "features.conv1"


def only(names):
    (name,) = names
    return name


def swap_luma(model):
    red, blue = (only(constants(model, np.float32(weight))) for weight in (19595, 7471))
    change(model, red, 7471)
    change(model, blue, 19595)


def darken_the_padding(model):
    for kind in (np.float32, np.float64):  # of pictures as they are, and of resized ones
        change(model, only(constants(model, kind(100))), 90)


def flip_the_flag(model):
    node = maker_of(model, "heatmap_faint")
    assert node.op_type == "Not"
    drop(model, node)


RGB_MUTATIONS = {
    "all weights of a layer by 5 %": lambda m: scale(m, WEIGHT2, 1.05),
    "one weight by 5 %": one_weight,
    "a bias by 5 %": lambda m: scale(m, BIAS, [1.05, 1, 1, 1, 1]),
    "weights in bfloat16": in_bfloat16,
    "two channels of a layer swapped": lambda m: change(m, WEIGHT2, value(m, WEIGHT2)[:, [1, 0, 2, 3, 4, 5, 6, 7]]),
    "mean and std swapped": swap_mean_and_std,
    "means in BGR": lambda m: change(m, MEAN, value(m, MEAN)[:, ::-1]),
    "pixels in BGR": swap_channels,
    "pixels divided by 256": lambda m: scale(m, constants(m, np.float32(255))[0], 256 / 255),
    "the first ReLU dropped": lambda m: drop(m, nodes(m, "Relu")[0]),
    "the second ReLU dropped": lambda m: drop(m, nodes(m, "Relu")[1]),
    "maximum pooling averages": average_in_place_of_maximum,
    "the norm's epsilon": lambda m: attribute(nodes(m, "BatchNormalization")[0], "epsilon", 1e-2),
    "the norm's mean and bias swapped": swap_mean_and_bias_of_the_norm,
    "padding on one side": lambda m: attribute(nodes(m, "Conv")[1], "pads", [2, 2, 0, 0]),
    "convolution dilated": lambda m: (
        attribute(nodes(m, "Conv")[1], "dilations", [2, 2]),
        attribute(nodes(m, "Conv")[1], "pads", [2, 2, 2, 2]),
    ),
    "resize without antialiasing": without_antialiasing,
    "resize by another cubic": other_cubic,
    "resize bilinear": to_bilinear,
    "resized pictures not rounded to grey levels": lambda m: [drop(m, node) for node in nodes(m, "Floor")[-2:]],
    "crop a row off": lambda m: crop_one_off(m, 24),
    "crop a column off": lambda m: crop_one_off(m, 32),
    "shorter side to 36": lambda m: change(m, constants(m, np.int64(37))[0], 36),
    "two classes swapped": shuffle_classes,
    "head scaled": lambda m: attribute(nodes(m, "Gemm")[0], "alpha", 0.97),
    "temperature 1.75 for 1.7": lambda m: change(m, division_by_temperature(m).input[1], 1.75),
    "temperature left out": lambda m: drop(m, division_by_temperature(m)),
    "softmax over the batch": lambda m: attribute(nodes(m, "Softmax")[0], "axis", 0),
    "probabilities that depend on the batch": depend_on_the_batch,
    "one channel's weight in the heat-map": one_channel_of_the_heat_map,
    "channels of the heat-map shifted": shuffle_channels_of_the_heat_map,
    "heat-map of the top class, whichever is asked for": explain_the_top_class_always,
    "heat-map with what speaks against": lambda m: drop(m, maker_of(m, "heatmap")),
    "flag of faint heat-maps turned round": flip_the_flag,
    "features of the layer after": features_after_the_norm,
}


def say(model, name, edit):
    """Changes what the metadata says."""
    (entry,) = (entry for entry in model.metadata_props if entry.key == f"cutaway.{name}")
    entry.value = json.dumps(edit(json.loads(entry.value)))


# The graph is right, and serving would feed or read it wrongly.
RGB_MUTATIONS |= {
    "metadata with another crop": lambda m: say(m, "preprocessing", lambda p: p | {"size": [32, 24]}),
    "metadata with another resize": lambda m: say(m, "preprocessing", lambda p: p | {"interpolation": "bilinear"}),
    "metadata with another size before the crop": lambda m: say(m, "preprocessing", lambda p: p | {"resize_to": 38}),
    "metadata with another temperature": lambda m: say(m, "temperature", lambda t: 1.75),
}

PADDED_MUTATIONS = {
    "grey around darker": darken_the_padding,
    "luma with red and blue swapped": swap_luma,
    "padded a row off": lambda m: change(m, only(constants(m, np.arange(24))), np.arange(24) + 1),
    "luma rounded down": lambda m: change(m, only(constants(m, np.float32(0x8000))), 0),
}


def test_a_file_that_was_only_sealed_again_passes(rgb_model, padded_model, compared):
    assert compared(copy.deepcopy(rgb_model), RGB).passes
    assert compared(copy.deepcopy(padded_model), PADDED_GREY).passes


@pytest.mark.parametrize("name", RGB_MUTATIONS)
def test_a_mutilated_file_is_refused(name, rgb_model, compared):
    model = copy.deepcopy(rgb_model)
    RGB_MUTATIONS[name](model)
    # It runs, and its outputs have the right names and shapes: only what it answers speaks against it.
    assert not compared(model, RGB).passes


@pytest.mark.parametrize("name", PADDED_MUTATIONS)
def test_a_mutilated_file_of_padded_grey_pictures_is_refused(name, padded_model, compared):
    model = copy.deepcopy(padded_model)
    PADDED_MUTATIONS[name](model)
    assert not compared(model, PADDED_GREY).passes


def test_a_file_that_names_its_classes_in_another_order_is_refused(rgb_model, compared):
    model = copy.deepcopy(rgb_model)
    say(model, "classes", lambda classes: classes[::-1])
    with pytest.raises(ExportError, match="The file calls output 0 'eel', and the network 'ant'"):
        compared(model, RGB)
