"""A second file for weights: only the one that was exported, only from the file's own folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from cutaway.errors import ServingError
from cutaway.serve.classifier import Classifier
from cutaway.serve.external_data import ExternalData

CONTENT = bytes(64) + np.array([[6, -3, -3, 0.5], [-3, 6, -3, 0.5], [-3, -3, 6, 0.5]], np.float32).tobytes()


@pytest.fixture
def make_pair(make_model, tmp_path):
    """Writes model.onnx, whose matrix lies in weights.bin behind 64 bytes of padding; keywords change what it says."""

    def make(content: bytes = CONTENT, *, entries: dict[str, str] | None = None, edit: Any = None, **said: Any) -> Path:
        said = {"file": "weights.bin", "num_bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()} | said

        def point(model) -> None:
            (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "weights")
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            named = {"location": "weights.bin", "offset": "64", "length": str(len(CONTENT) - 64)}
            for key, value in (named | (entries or {})).items():
                tensor.external_data.add(key=key, value=value)
            if edit is not None:
                edit(model)

        made = make_model(edit=point, external_data=ExternalData.model_construct(**said))
        path = tmp_path / "model.onnx"
        path.write_bytes(made.read_bytes())
        (tmp_path / "weights.bin").write_bytes(content)
        return path

    return make


def test_the_network_answers_with_the_weights_beside_it(make_pair, pictures, monkeypatch, tmp_path) -> None:
    path = make_pair()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the folder is the file's, not the one it was started in
    (prediction,) = Classifier(path, provider="cpu")([pictures("blue")])
    assert prediction.top[0].label == "blue"
    np.testing.assert_allclose(prediction.heatmap, np.full((8, 8), 6.0))


def test_what_was_hashed_is_what_is_run(make_pair, pictures, tmp_path) -> None:
    classifier = Classifier(make_pair(), provider="cpu")
    (tmp_path / "weights.bin").unlink()
    assert classifier([pictures("red")])[0].top[0].label == "red"


@pytest.mark.parametrize(
    ("content", "said"),
    [(CONTENT[:-1], "have 111 bytes, and 112"), (CONTENT + b"x", "113"), (b"x" + CONTENT[1:], "are damaged")],
)
def test_other_weights_are_refused(make_pair, content, said) -> None:
    with pytest.raises(ServingError, match=said):
        Classifier(make_pair(content))


def test_missing_weights_links_folders_and_pipes_are_refused(make_pair, tmp_path) -> None:
    path = make_pair()
    beside = tmp_path / "weights.bin"
    beside.rename(tmp_path / "real.bin")
    with pytest.raises(ServingError, match="not beside it"):
        Classifier(path)
    beside.symlink_to(tmp_path / "real.bin")
    with pytest.raises(ServingError, match="are a link"):
        Classifier(path)
    beside.unlink()
    beside.mkdir()
    with pytest.raises(ServingError, match="not a file"):
        Classifier(path)
    beside.rmdir()
    os.mkfifo(beside)
    with pytest.raises(ServingError, match="not a file"):
        Classifier(path)


@pytest.mark.parametrize(
    "name", ["../weights.bin", "/etc/passwd", "a/weights.bin", "..", ".", "", "a\\weights.bin", "C:weights.bin", "a\0b"]
)
def test_a_name_that_leaves_the_folder_is_refused(make_pair, name) -> None:
    with pytest.raises(ServingError, match=r"external_data\.file"):
        Classifier(make_pair(file=name))


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../weights.bin"},
        {"location": "/etc/passwd"},
        {"location": "other.bin"},
        {"offset": "65"},
        {"length": "999"},
        {"offset": "-1"},
        {"length": "9" * 30},
        {"offset": ""},
        {"checksum": "0"},
    ],
)
def test_tensors_that_lie_elsewhere_are_refused(make_pair, entries) -> None:
    with pytest.raises(ServingError, match=r"other files than weights\.bin"):
        Classifier(make_pair(entries=entries))


def test_only_initializers_of_the_main_graph_may_lie_outside(make_pair) -> None:
    def constant(model) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "weights")
        model.graph.node.append(helper.make_node("Constant", [], ["w"], value=tensor))

    with pytest.raises(ServingError, match="other files than"):
        Classifier(make_pair(edit=constant))


def test_a_file_that_names_no_second_one_stands_alone(make_pair, make_model) -> None:
    def point(model) -> None:
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        model.graph.initializer[0].external_data.add(key="location", value="weights.bin")

    with pytest.raises(ServingError, match="only files that stand alone"):
        Classifier(make_model(edit=point))
