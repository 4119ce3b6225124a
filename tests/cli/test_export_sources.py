"""Networks that are exported without a bundle: where they come from, and what is to be said of them."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from cutaway.cli import main
from cutaway.cli.export_pictures import show
from cutaway.cli.export_sources import ForeignOptions, Source, find_source
from cutaway.datasets import load
from cutaway.errors import BundleError, CutawayError, NetworkError, SettingsError
from cutaway.evaluation import evaluate
from cutaway.networks import NetworkSpec, build
from cutaway.networks.pretrained import cached_file, published
from cutaway.preprocessing import Preprocessing
from cutaway.progress import silent
from cutaway.serve.export import calibrate
from cutaway.serve.metadata import Metadata, Verification

SHUFFLENET = "torchvision:shufflenet_v2_x0_5"
GREY = {"size": [28, 28], "color": "grey", "mean": [0.25], "std": [0.5]}

# The nearest mean picture of each class of the sample, far too sure of itself; it brings its weights along.
FACTORY = """
import numpy as np
import torch
from torch import nn
from cutaway.datasets import load

def nearest(num_classes, input_shape):
    train = load("fashion-mnist-sample").train
    pictures = torch.from_numpy(train.images.astype(np.float32)).flatten(1) / 255
    means = torch.stack([pictures[torch.from_numpy(train.labels == c)].mean(0) for c in range(num_classes)])
    layer = nn.Linear(784, num_classes)
    with torch.no_grad():
        layer.weight.copy_(means)
        layer.bias.copy_(-(means**2).sum(1) / 2)
    return nn.Sequential(nn.Flatten(), layer)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grey.json").write_text(json.dumps(GREY))
    Path("own_networks_to_export.py").write_text(FACTORY)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield
    sys.modules.pop("own_networks_to_export", None)


@pytest.fixture(scope="module")
def shufflenet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.shufflenet_v2_x0_5(num_classes=1000).eval()


def found(reference=None, *, allow_code=(), **options) -> Source:
    return find_source(reference, ForeignOptions(**options), allow_code=allow_code)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_torchvision_s_networks_are_known_with_classes_and_preprocessing(shufflenet, suffix):
    state = shufflenet.state_dict()
    if suffix == "pth":
        torch.save({"epoch": 3, "model": {f"module.{name}": tensor for name, tensor in state.items()}}, "w.pth")
    else:
        save_file(state, "w.safetensors")
    source = found(network=SHUFFLENET, weights=Path(f"w.{suffix}"))
    known = published("shufflenet_v2_x0_5")
    assert source.preprocessing == known.preprocessing
    assert source.classes[:2] == ("tench", "goldfish")
    # ImageNet has two cranes and two maillots.
    assert len(set(source.classes)) == 1000
    assert (source.out, source.name, source.restored) == (Path("shufflenet_v2_x0_5.onnx"), SHUFFLENET, None)
    assert any("prepared as torchvision's ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1" in note for note in source.notes)
    inputs = torch.rand(1, 3, 224, 224)
    assert torch.equal(source.network(inputs), shufflenet(inputs))
    assert not source.network.training


def test_a_file_with_the_name_of_older_weights_is_prepared_as_they_were():
    state = build(NetworkSpec(name="torchvision:resnet18", num_classes=1000, input_shape=(3, 224, 224))).state_dict()
    torch.save(state, "resnet18-f37072fd.pth")
    source = found(network="torchvision:resnet18", weights=Path("resnet18-f37072fd.pth"))
    assert any("ResNet18_Weights.IMAGENET1K_V1" in note for note in source.notes)
    assert source.preprocessing.resize_to == 256


def test_torchvision_s_own_weights_come_from_its_cache(shufflenet, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    file = cached_file("shufflenet_v2_x0_5")
    file.parent.mkdir()
    torch.save(shufflenet.state_dict(), file)
    source = found(network=SHUFFLENET, pretrained=True)
    assert torch.equal(source.network.fc.weight, shufflenet.fc.weight)
    assert source.weights == hashlib.sha256(file.read_bytes()).hexdigest()


def test_weights_of_another_number_of_classes_ask_for_their_names(shufflenet):
    state = shufflenet.state_dict()
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:3], state["fc.bias"][:3]
    torch.save(state, "three.pth")
    with pytest.raises(SettingsError, match=r"three\.pth has 3 outputs, .*nothing says what they stand for") as error:
        found(network=SHUFFLENET, weights=Path("three.pth"))
    assert "--classes" in error.value.hint
    with pytest.raises(BundleError, match=r"three\.pth has 3 outputs \(at 'fc\.weight'\) for 2 labels") as error:
        found(network=SHUFFLENET, weights=Path("three.pth"), classes="cat,dog")
    assert "--partial" not in error.value.hint
    Path("labels.txt").write_text("cat\ndog\nfox\n")
    for classes in ("cat,dog,fox", "labels.txt"):
        source = found(network=SHUFFLENET, weights=Path("three.pth"), classes=classes)
        assert source.classes == ("cat", "dog", "fox")


def test_classes_and_preprocessing_that_nothing_names_are_those_of_the_file(shufflenet):
    state = shufflenet.state_dict()
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:3], state["fc.bias"][:3]
    torch.save(state, "three.pth")
    prepared = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.2,) * 3)
    said = {"preprocessing": prepared, "network": "n", "verification": Verification(data="", thresholds={})}
    three = Metadata(classes=("cat", "dog", "fox"), **said)
    named = ForeignOptions(network=SHUFFLENET, weights=Path("three.pth"))
    source = find_source(None, named, exported=three)
    assert source.classes == three.classes
    assert source.preprocessing == published("shufflenet_v2_x0_5").preprocessing
    # Torchvision knows the names of its own classes, and a file may have others.
    torch.save(shufflenet.state_dict(), "all.pth")
    thousand = Metadata(classes=tuple(map(str, range(1000))), **said)
    source = find_source(None, ForeignOptions(network=SHUFFLENET, weights=Path("all.pth")), exported=thousand)
    assert source.classes[0] == "tench"
    with pytest.raises(BundleError, match=r"three\.pth has 3 outputs \(at 'fc\.weight'\) for 2 labels"):
        find_source(None, named, exported=Metadata(classes=("cat", "dog"), **said))


def test_heads_that_only_training_runs_are_left_out_and_that_is_said():
    with torch.random.fork_rng(devices=[]):
        theirs = models.googlenet(num_classes=3, aux_logits=True, init_weights=False)
    torch.save({f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}, "g.pth")
    source = found(network="torchvision:googlenet", weights=Path("g.pth"), classes="a,b,c")
    assert any("heads that only training runs were left out" in note for note in source.notes)
    assert torch.equal(source.network.fc.weight, theirs.fc.weight)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({}, SettingsError, "Nothing is named"),
        ({"reference": "runs/x", "network": "lenet5"}, SettingsError, "both named"),
        ({"reference": "runs/x", "classes": "a,b"}, SettingsError, "--classes goes with --network"),
        ({"weights": Path("w.pth")}, SettingsError, "Nothing is named"),
        ({"network": "lenet5"}, SettingsError, "no weights"),
        ({"network": "lenet5", "pretrained": True}, SettingsError, "no pretrained weights for lenet5"),
        ({"network": SHUFFLENET, "pretrained": True, "weights": Path("w.pth")}, SettingsError, "both name weights"),
        ({"network": "lenet5", "weights": Path("w.pth")}, SettingsError, "what the outputs"),
        ({"network": "lenet5", "weights": Path("w.pth"), "classes": "a,b"}, SettingsError, "what pictures"),
        ({"network": SHUFFLENET, "weights": Path("none.pth")}, BundleError, "cannot be read"),
        ({"network": SHUFFLENET, "pretrained": True, "key": "ema"}, SettingsError, "--key says how --weights are"),
        ({"network": "python:a:b", "strip_prefix": "net."}, SettingsError, "--strip-prefix says how --weights are"),
        ({"network": "torchvision:resnet19", "weights": Path("w.pth")}, NetworkError, "resnet19"),
    ],
)
def test_what_is_missing_or_said_twice_is_told(options, kind, said):
    torch.save({"a": torch.ones(1)}, "w.pth")
    with pytest.raises(kind, match=said):
        found(**options)


def test_an_own_factory_needs_permission_and_is_exported_with_a_temperature(capsys):
    words = "export --network python:own_networks_to_export:nearest --preprocessing grey.json --no-explain --json"
    labels = ["--classes", ",".join(load("fashion-mnist-sample").classes)]
    asked = [*words.split(), *labels, "--calibrate", "--data", "fashion-mnist-sample"]
    assert main(asked) == 1
    assert "--allow-code own_networks_to_export" in capsys.readouterr().err
    assert "own_networks_to_export" not in sys.modules
    assert main([*asked, "--allow-code", "own_networks_to_export"]) == 0
    told = json.loads(capsys.readouterr().out)
    calibration = told["calibration"]
    assert calibration["temperature"] > 1
    assert calibration["ece_after"] < calibration["ece_before"] / 2
    assert (calibration["measured_on"], calibration["num_measured"]) == ("test", 1000)
    assert "The weights are those that the factory gave it." in told["notes"]
    session = ort.InferenceSession(told["path"])
    pictures = load("fashion-mnist-sample").test.images[:5].repeat(3, 3)
    logits, probabilities = session.run(["logits", "probabilities"], {"images": pictures})
    divided = torch.from_numpy(logits) / calibration["temperature"]
    np.testing.assert_allclose(probabilities, divided.softmax(1), atol=1e-6)


class Grey(torch.nn.Module):
    def forward(self, pictures):
        return pictures.mean((1, 2, 3))[:, None] * torch.tensor([-1.0, 0.1, 1.0])


@pytest.fixture
def source():
    preprocessing = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.2,) * 3)
    return Source(Grey(), preprocessing, ("dark", "grey", "light"), "grey", Path("grey.onnx"))


def test_pictures_to_verify_with_come_from_any_folder_and_need_no_classes(source, pictures):
    shown = show(source, str(pictures), calibrate=False, track=silent)
    assert (len(shown.images), shown.images[0].shape, shown.evaluation) == (15, (30, 36, 3), None)
    assert show(source, "fashion-mnist-sample", calibrate=False, track=silent).images[0].shape == (28, 28, 1)
    assert show(source, None, calibrate=False, track=silent).images == []


def test_calibrating_needs_pictures_of_the_same_classes(source, pictures):
    with pytest.raises(SettingsError, match="needs pictures of known classes"):
        show(source, None, calibrate=True, track=silent)
    with pytest.raises(CutawayError, match="has the classes"):
        show(source, "fashion-mnist-sample", calibrate=True, track=silent)
    calibrated = show(source, f"folder:{pictures}", calibrate=True, track=silent).calibrated
    assert (calibrated.num_fitted, calibrated.is_on_few, calibrated.measured_on) == (7, True, "test")
    dataset = load(f"folder:{pictures}")
    valid, test = (evaluate(source.network, each, source.preprocessing) for each in (dataset.valid, dataset.test))
    assert calibrated.temperature == pytest.approx(calibrate(valid, test).temperature)
    assert calibrated.temperature != pytest.approx(calibrate(test, test).temperature)
