"""That what `cutaway export` is asked for reaches the file."""

import onnx

from cutaway.cli import main
from cutaway.serve import Classifier


def test_the_file_is_as_it_was_asked_for(convolutional_run):
    heat_map = ["--method", "hirescam", "--target-layer", "conv1"]
    assert main(["export", "run", *heat_map, "--layers", "conv1,conv2", "--input", "float", "--opset", "19"]) == 0
    model = onnx.load("run/export/model.onnx")
    assert [entry.version for entry in model.opset_import] == [19]
    images = model.graph.input[0].type.tensor_type
    assert images.elem_type == onnx.TensorProto.FLOAT
    assert [side.dim_value for side in images.shape.dim[1:]] == [1, 28, 28]
    said = Classifier("run/export/model.onnx", provider="cpu").metadata
    assert (said.method, said.target_layer, said.input) == ("hirescam", "conv1", "float")
    assert [feature.output for feature in said.features] == ["features.conv1", "features.conv2"]
