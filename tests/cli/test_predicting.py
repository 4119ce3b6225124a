"""`cutaway predict` on a file of another tool, in this process."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cutaway.cli.predicting import run_predict
from cutaway.cli.serving import run_serve
from cutaway.errors import DataError, ServingError, SettingsError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """other.onnx takes the mean of each channel for the logits of three classes; a red picture."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["in", "sides"], ["out"], keepdims=0)],
        "g",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.array([2, 3]), "sides")],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "other.onnx")
    Image.new("RGB", (9, 5), (255, 0, 0)).save(tmp_path / "red.png")
    preprocessing = {"size": [4, 4], "mean": [0, 0, 0], "std": [1, 0.5, 0.5]}
    (tmp_path / "prep.json").write_text(json.dumps(preprocessing))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("classes", ["labels.txt", "red, green,blue"])
def test_a_file_of_another_tool_is_used_with_what_is_said_of_it(folder, capsys, classes):
    run_predict(["other.onnx", "red.png", "--classes", classes, "--preprocessing", "prep.json", "--json"])
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["top"][0]["label"] == "red"
    assert answer["top"][0]["probability"] == pytest.approx(np.e / (np.e + 2), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("", ServingError, "--classes, --preprocessing"),
        ("--classes a,b,c", ServingError, "both"),
        ("--classes nothing.txt --preprocessing prep.json", SettingsError, "no file nothing.txt"),
        ("--classes a,,c --preprocessing prep.json", SettingsError, "no name"),
        ("--classes a,b --preprocessing prep.json", ServingError, r"\[N, 2\]"),
        ("--classes . --preprocessing prep.json", DataError, "cannot be read"),
        ("--classes a,b,c --preprocessing imagenet", ServingError, "224x224"),
        ("--classes a,b,c --preprocessing labels.txt", SettingsError, "labels.txt"),
        ("--classes a,b,c --preprocessing missing.json", SettingsError, "missing.json"),
    ],
)
def test_what_is_said_wrongly_is_told(folder, words, error, said):
    for run in (lambda: run_predict(["other.onnx", "red.png", *words.split()]),) + (
        (lambda: run_serve(["other.onnx", "--port", "0", *words.split()]),) if words else ()
    ):
        with pytest.raises(error, match=said):
            run()


def test_a_preprocessing_that_is_not_valid_is_told(folder):
    for values, said in (({"size": [4, 4]}, "mean"), ({"size": [4, 4], "mean": [0], "std": [1]}, "3 values")):
        (folder / "prep.json").write_text(json.dumps(values))
        with pytest.raises(SettingsError, match=said):
            run_predict(["other.onnx", "red.png", "--classes", "a,b,c", "--preprocessing", "prep.json"])


def test_it_says_where_cuda_was_meant_and_did_not_load(folder, capsys, monkeypatch):
    import onnxruntime

    real, both = onnxruntime.InferenceSession, ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: both)
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda data, options, **further: real(data, options, both[1:]))
    run_predict(["other.onnx", "red.png", "--classes", "a,b,c", "--preprocessing", "prep.json"])
    assert "runs on the CPU" in capsys.readouterr().err


def test_imagenet_s_labels_without_torchvision_are_a_sentence(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(SettingsError, match="come with torchvision"):
        run_predict(["other.onnx", "red.png", "--classes", "imagenet", "--preprocessing", "prep.json"])
