"""`cutaway inspect layers` on bundles and on networks by name."""

from __future__ import annotations

import csv
import io
import json
from functools import partial

import pytest
from rich.console import Console

from cutaway.cli import main
from cutaway.cli.inspecting.layers import _CLASSES
from cutaway.settings.recipe import Optimizer


@pytest.fixture
def call(capsys):
    def run(line, code=0):
        assert main(["inspect", "layers", *line.split()]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def test_a_bundle_with_the_memory_of_its_own_optimizer(convolutional_run, call):
    said = call("run --batch-size 16")
    assert "conv1" in said
    assert "16×6×28×28" in said
    manifest = json.loads(next(convolutional_run.glob("checkpoints/*/manifest.json")).read_text())
    own = _CLASSES[manifest["configuration"]["optimizer"]]
    assert f"Training with {own} at a batch size of 16 keeps about" in said
    plain = json.loads(call("run --json --optimizer sgd"))["training_memory"]
    adam = json.loads(call("run --json --optimizer adam"))["training_memory"]
    assert adam["optimizer_bytes"] > 2 * plain["gradient_bytes"]
    assert plain["optimizer_bytes"] == plain["gradient_bytes"]
    assert set(_CLASSES) == set(Optimizer.__args__)


def test_training_is_told_at_the_run_s_own_batch_size(convolutional_run, call):
    manifest = json.loads(next(convolutional_run.glob("checkpoints/*/manifest.json")).read_text())
    own = manifest["configuration"]["batch_size"]
    assert own > 1
    found = json.loads(call("run --json"))
    assert (found["batch_size"], found["training_memory"]["batch_size"]) == (1, own)
    assert json.loads(call("run --json --batch-size 1"))["training_memory"]["batch_size"] == 1
    assert f"at a batch size of {own} keeps about" in call("run")


def test_a_network_by_name(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    table = json.loads(call("torchvision:resnet18 --input 3 64 64 --num-classes 10 --json"))
    assert table["input_shapes"] == [[1, 3, 64, 64]]
    assert table["totals"]["trainable"] == 11_181_642
    assert any(row["name"] == "layer1.0:add#0" for row in table["rows"])
    assert not any(
        row["is_operation"] for row in json.loads(call("torchvision:resnet18 --no-operations --json"))["rows"]
    )
    assert "1×3×299×299" in call("torchvision:inception_v3 --depth 0")
    assert "resnet18" in call("torchvision:resnet81", code=1)
    assert "--input" in call("lenet5 --input 3 0 5", code=1)
    assert "--input" in call("lenet5 --input 3 99999 5", code=1)
    assert "--num-classes" in call("lenet5 --num-classes 0", code=1)
    assert "--depth" in call("lenet5 --depth -1", code=1)
    assert "at least 12x12" in call("lenet5 --input 1 2 2", code=1)
    # What lies there under the name is a bundle, or not one, but never the network.
    (tmp_path / "lenet5").mkdir()
    assert "lenet5" in call("lenet5", code=1)


def test_a_network_of_one_s_own_needs_permission(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen_layers.py").write_text(
        "import torch\n"
        "def make(num_classes):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, num_classes))\n"
    )
    line = "python:seen_layers:make --input 3 2 2 --num-classes 4"
    assert "--allow-code seen_layers" in call(line, code=1)
    assert "52" in call(f"{line} --allow-code seen_layers --columns layer parameters")


def test_forms_columns_and_depth(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    name = "torchvision:mobilenet_v2"
    assert call(f"{name} --format md --depth 1 --columns layer macs").count("\n| ") == 6
    rows = list(csv.DictReader(io.StringIO(call(f"{name} --format csv"))))
    assert sum(int(row["macs"]) for row in rows) == json.loads(call(f"{name} --json"))["totals"]["macs"]
    few = call("lenet5 --columns layer output macs field --format csv").splitlines()
    assert few[0] == "layer,output,macs,field"
    assert set(json.loads(call("lenet5 --columns layer macs --json"))["rows"][0]) == {"layer", "macs"}
    page = call(f"{name} --format html --nested")
    assert page.startswith("<!doctype html>")
    assert "(MobileNetV2)" in page
    assert "(MobileNetV2)" not in call(f"{name} --format html")
    assert "features.0" not in call(f"{name} --depth 1")
    assert "Known are order, layer" in call(f"{name} --columns layer colour", code=1)


def test_what_cannot_be_trained_at_this_batch_size_is_told(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    said = call("torchvision:efficientnet_b0 --input 3 32 32 --depth 0")
    assert "What training takes is not known: " in said
    assert "Expected more than 1 value per channel" in said


def test_the_help_names_every_column():
    from cutaway.cli.inspecting.layers import _COLUMNS as told
    from cutaway.inspect.layer_rendering import COLUMNS

    assert told.rstrip(".").partition(" of ")[2].split(", ") == list(COLUMNS)


@pytest.mark.usefixtures("convolutional_run")
@pytest.mark.parametrize(
    ("width", "words", "left_out", "shown"),
    [
        (80, [], "stride, field, input, activations", "conv2 Conv2d 1×16×10×10 2,416 frozen 240 k"),
        (40, [], "stride, field, input, activations, order", "2,416 frozen 240 k"),
        (200, [], None, "conv2 Conv2d 1×6×14×14 1×16×10×10 2,416 frozen 240 k 6.4 kB 14 2"),
        (30, ["--columns", "layer", "input", "output", "macs"], None, "240 k"),
    ],
)
def test_on_a_narrow_terminal_columns_are_left_out_and_figures_stay_whole(
    width, words, left_out, shown, monkeypatch, capsys
) -> None:
    from cutaway.cli.inspecting import fitting_layers

    screen = partial(Console, markup=False, highlight=False, soft_wrap=True, width=width)
    monkeypatch.setattr(fitting_layers, "console", screen)
    assert main(["inspect", "layers", "run", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line[:1] in "┏┃┡│├└"]
    assert any(shown in " ".join(line.replace("│", " ").split()) for line in table)
    assert (f"Left out for want of room: {left_out}." in lines[-1]) == (left_out is not None)
    if width >= 80:
        assert max(map(len, table)) <= width
