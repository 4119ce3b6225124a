"""`cutaway verify`: a file beside the bundle that it was made of, beside others, and what is said of it."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cutaway.cli import main
from cutaway.datasets import load
from cutaway.errors import ExportError
from cutaway.networks import NetworkSpec, build
from cutaway.serve import export
from cutaway.serve.metadata import from_properties
from cutaway.serve.onnx_file import properties

GREY = {"size": [28, 28], "color": "grey", "mean": [0.286], "std": [0.353]}


# The same bundle gives the same bytes, so one export does for all tests.
EXPORTS = []


@pytest.fixture
def exported(convolutional_run, capsys):
    """What the export of `run` to `model.onnx` told."""
    if not EXPORTS:
        assert main(["export", "run", "--out", "model.onnx", "--json"]) == 0
        EXPORTS.append((Path("model.onnx").read_bytes(), json.loads(capsys.readouterr().out)))
    data, told = EXPORTS[0]
    Path("model.onnx").write_bytes(data)
    return told


@pytest.fixture
def other_run(convolutional_run):
    """`other`, a run of the same network with other weights and in its own words the same data."""
    from cutaway.checkpoints import write_bundle
    from cutaway.checkpoints.runs import find

    stored = find("run")
    shutil.copytree("run", "other")
    path = Path("other/checkpoints") / stored.path.name
    shutil.rmtree(path)
    manifest = stored.manifest.model_copy(update={"metrics": {"valid_loss": 9.0}})
    torch.manual_seed(1)
    write_bundle(path, manifest, {"model": dict(build(stored.manifest.network).state_dict())})


def test_a_file_is_as_good_as_at_its_export(exported, capsys):
    assert main(["verify", "model.onnx", "run", "--provider", "cpu", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passes"]
    assert (told["against"], told["notes"], told["device"], told["precision"]) == ("", [], "cpu", "fp32")
    assert told["probability_difference"] == exported["probability_difference"]
    assert told["encoded_pictures"] == exported["encoded_pictures"]
    assert told["thresholds"]["probability_difference"] == 1e-4
    assert main(["verify", "model.onnx", "run"]) == 0
    said = capsys.readouterr().out
    assert "model.onnx: lenet5 in fp32, run on the CPU" in said
    rows = {line.rsplit(maxsplit=2)[0]: line.split()[-1] for line in said.splitlines() if line.startswith("heatmap")}
    assert rows == {"heatmap correlation": "0.999", "heatmap difference": "0.05", "heatmap share": "0.8"}
    line = next(line for line in said.splitlines() if line.startswith("verified against PyTorch on 15 pictures in 15"))
    assert re.search(
        r"from the encoded file to the answer by \d\.\de[+-]\d\d, heat-maps correlate by [01]\.\d{4} at", line
    )


def test_another_bundle_is_told_and_refused_with_figures(exported, other_run, capsys):
    assert main(["verify", "model.onnx", "other", "--json"]) == 1
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert not told["passes"]
    assert told["against"].startswith("The exported file disagrees with PyTorch")
    assert told["probability_difference"] > 1e-3
    assert "was made of the bundle" in told["notes"][0]
    assert "cutaway: error: The exported file disagrees with PyTorch" in printed.err
    assert main(["verify", "model.onnx", "other"]) == 1
    said = capsys.readouterr().out
    assert "is compared with the bundle" in said
    assert "verified" not in said


def test_pictures_of_any_folder_take_the_place_of_the_run_s_own(exported, capsys, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    assert main(["verify", "model.onnx", "run", "--data", "photos", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["picture_sizes"][0]) == (3, [40, 50])


@pytest.mark.slow
def test_a_smaller_form_is_judged_on_the_validation_split(convolutional_run, capsys):
    words = ["--precision", "fp16", "--out", "small.onnx", "--max-accuracy-drop", "0.5", "--no-explain", "--json"]
    assert main(["export", "run", *words]) == 0
    at_export = json.loads(capsys.readouterr().out)
    assert main(["verify", "small.onnx", "run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name in ("pictures", "accuracy", "accuracy_before", "thresholds"):
        assert told[name] == at_export[name]
    assert "accuracy_drop 0.5 in place of 0.01" in told["notes"][0]
    assert main(["verify", "small.onnx", "run"]) == 0
    said = capsys.readouterr().out
    assert f"accuracy on {told['pictures']} validation pictures {told['accuracy']:.2%}, of PyTorch in fp32" in said


def test_a_network_without_a_bundle_is_named_as_at_its_export(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(build(NetworkSpec(name="lenet5", num_classes=10, input_shape=(1, 28, 28))).state_dict(), "w.pth")
    Path("grey.json").write_text(json.dumps(GREY))
    classes = ",".join(load("fashion-mnist-sample").classes)
    named = ["--network", "lenet5", "--weights", "w.pth", "--classes", classes, "--preprocessing", "grey.json"]
    assert main(["export", *named, "--no-explain", "--precision", "fp32"]) == 0
    capsys.readouterr()
    assert main(["verify", "lenet5.onnx", *named]) == 0
    said = capsys.readouterr().out
    assert "The pictures were generated" in said
    assert "is compared with" not in said
    assert "verified against PyTorch on 8 pictures" in said
    weights = hashlib.sha256(Path("w.pth").read_bytes()).hexdigest()
    assert from_properties(properties(Path("lenet5.onnx").read_bytes())).weights == weights
    # The same weights in another file: the figures pass, and the person is told.
    save_file(torch.load("w.pth"), "w.safetensors")
    named[3] = "w.safetensors"
    assert main(["verify", "lenet5.onnx", *named]) == 0
    assert f"was made of the weights file {weights[:12]}, and is compared with the weights file" in (
        capsys.readouterr().out
    )
    # What nothing else names is as the file has it.
    assert main(["verify", "lenet5.onnx", *named[:4]]) == 0
    assert "Pictures are prepared as the file says" in capsys.readouterr().out
    assert main(["verify", "lenet5.onnx", *named[:4], "--classes", "a,b,c,d,e,f,g,h,i,j"]) == 1
    assert "calls output 0 'T-shirt/top', and the network 'a'" in capsys.readouterr().err
    assert main(["verify", "lenet5.onnx", "run", *named]) == 1
    assert "one network is wanted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.onnx", "nowhere"], "no run or bundle at nowhere"),
        (["model.onnx"], "Nothing is named to take a network from"),
        (["nowhere.onnx", "run"], "There is no file nowhere.onnx"),
        (["damaged.onnx", "run"], "is damaged: it is not the file that was exported"),
        (["model.onnx", "run", "--data", "none"], "none"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(words, said, exported, capsys):
    data = bytearray(Path("model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    Path("damaged.onnx").write_bytes(data)
    assert main(["verify", *words]) == 1
    assert said in capsys.readouterr().err


def test_the_file_is_compared_where_it_was_asked_to_be(exported, monkeypatch, capsys):
    def note(*arguments, **named):
        raise ExportError(f"compared on {named['provider']} of {len(named['images'])} pictures")

    monkeypatch.setattr(export, "compare_file", note)
    assert main(["verify", "model.onnx", "run", "--provider", "cpu"]) == 1
    assert "compared on cpu of 15 pictures" in capsys.readouterr().err


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA")
def test_a_provider_that_is_not_there_is_no_reason_to_take_another(exported, capsys):
    assert main(["verify", "model.onnx", "run", "--provider", "cuda"]) == 1
    assert "built without CUDA" in capsys.readouterr().err
