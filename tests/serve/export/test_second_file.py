"""Weights above a limit go into a second file, whole or not at all."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import ServingError
from cutaway.preprocessing import Preprocessing
from cutaway.serve.classifier import Classifier
from cutaway.serve.export import export_module, verify_file
from cutaway.serve.export.forms import compare_forms
from cutaway.serve.export.second_file import without_large_tensors
from cutaway.serve.writing import whole_or_nothing

SPEC = Preprocessing(size=(8, 8), color="grey", mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 3))


@pytest.fixture(scope="module")
def pair(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return export_module(
        network, SPEC, "abc", str(folder / "m.onnx"), target_layer="2", input_form="float", largest_file=2000
    )


def test_both_files_are_there_and_no_other(pair):
    folder, external = pair.path.parent, pair.metadata.external_data
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "m.onnx.data"]
    content = (folder / "m.onnx.data").read_bytes()
    assert (external.file, external.num_bytes) == ("m.onnx.data", len(content))
    assert external.sha256 == hashlib.sha256(content).hexdigest()
    assert pair.num_bytes == len(content) + pair.path.stat().st_size
    model = onnx.load(pair.path, load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert len(outside) == 3  # the second convolution, the head, its transpose for the map; what is small stays
    onnx.checker.check_model(str(pair.path), full_check=True)


def test_both_are_compared_again_as_at_their_export(pair, network, tmp_path):
    again = verify_file(str(pair.path), network, SPEC, "abc")
    assert again.figures == pair.figures
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / name).write_bytes((pair.path.parent / name).read_bytes())
    with (tmp_path / "m.onnx.data").open("r+b") as file:
        file.write(b"\1")
    with pytest.raises(ServingError, match="are damaged"):
        verify_file(tmp_path / "m.onnx", network, SPEC, "abc")


def test_it_answers_and_explains_as_pytorch(pair, network):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    (prediction,) = Classifier(pair.path, provider="cpu")([picture])
    with torch.no_grad():
        expected = network(torch.from_numpy(SPEC.normalise(picture[None]))).softmax(1)[0]
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    assert prediction.heatmap.shape == (4, 4)
    assert pair.figures.heatmap_correlation > 0.999


def test_a_mixed_up_pair_is_refused(pair, tmp_path):
    (tmp_path / "m.onnx").write_bytes(pair.path.read_bytes())
    content = bytearray((pair.path.parent / "m.onnx.data").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m.onnx.data").write_bytes(content)
    with pytest.raises(ServingError, match="damaged"):
        Classifier(tmp_path / "m.onnx")


def test_a_comparison_of_forms_counts_both_files(pair):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    validation = Split("valid", np.arange(6) % 3, pixels)
    comparison = compare_forms(str(pair.path), validation=validation, calibration=list(pixels), provider="cpu")
    assert comparison.forms[0].num_bytes == pair.num_bytes
    assert comparison.best == "fp32"
    assert all("above 2 GB" in form.against for form in comparison.forms[1:])


def test_the_checker_sees_a_graph_without_its_weights(pair):
    model = onnx.load(pair.path)
    light = without_large_tensors(model)
    assert light.ByteSize() < model.ByteSize() - pair.metadata.external_data.num_bytes / 2
    onnx.checker.check_model(light, full_check=True)
    light.graph.node[0].input[0] = "nothing"
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(light, full_check=True)


def test_a_pair_takes_its_names_when_the_block_ends_or_never(tmp_path):
    out = tmp_path / "model.onnx"
    with whole_or_nothing(out, b"graph", {"model.onnx.data": [b"we", b"ights"]}) as temporary:
        assert temporary.name == out.name
        assert (temporary.parent / "model.onnx.data").read_bytes() == b"weights"
        assert not out.exists()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "model.onnx": b"graph",
        "model.onnx.data": b"weights",
    }
    with pytest.raises(KeyboardInterrupt), whole_or_nothing(out, b"later", {"model.onnx.data": [b"later"]}):
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "model.onnx": b"graph",
        "model.onnx.data": b"weights",
    }


def test_what_a_killed_writer_left_of_a_pair_is_swept(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = tmp_path / f".tmp-{dead.pid}-0123abcd-model.onnx"
    left.mkdir()
    (left / "model.onnx.data").write_bytes(b"half")
    alive = tmp_path / f".tmp-{os.getpid()}-0123abcd-model.onnx"
    alive.mkdir()
    with whole_or_nothing(tmp_path / "model.onnx", b"graph"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "model.onnx"]
