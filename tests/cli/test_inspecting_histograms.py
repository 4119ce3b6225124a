"""`cutaway inspect histograms` over a run of a few steps, of which every one left a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cutaway.checkpoints import Run
from cutaway.cli import main

ALL = "weights biases gradients activations updates"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pictures):
    run = tmp_path_factory.mktemp("histograms") / "run"
    line = f"train --network lenet5 --data folder:{pictures} --image-size 28 --epochs 2 --batch-size 16 --out {run}"
    assert main([*line.split(), "--save-every", "1", "--keep-last", "50", "--optimizer", "adam", "--lr", "0.01"]) == 0
    return run


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(line, code=0):
        capsys.readouterr()
        assert main(["inspect", "histograms", *line.split()]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def test_everything_as_figures(trained, call):
    said = call(f"{trained}@2 --of {ALL} --over-time --out seen")
    files = {file.stem for file in Path("seen").iterdir()}
    assert files == {*ALL.split(), "last-step", "weights-over-time", "updates-over-time"}
    for file in Path("seen").iterdir():
        assert min(Image.open(file).size) > 100
        assert str(file) in said


def test_by_default_the_weights(trained, call):
    assert "histograms of the weights: histograms/weights.png" in call(f"{trained}")
    found = json.loads(call(f"{trained} --json"))
    assert set(found) == {"weights", "findings", "notes"}
    assert [one["name"] for one in found["weights"]] == [
        "conv1.weight",
        "conv2.weight",
        "fc1.weight",
        "fc2.weight",
        "out.weight",
    ]


def test_the_last_step_computed_back_is_the_step_between_bundles(trained, call):
    history = json.loads(call(f"{trained}@last --of updates --over-time --json"))["over_time"]
    steps = [moment["step"] for moment in history]
    assert steps == list(range(1, steps[-1] + 1))
    for moment in history[1:]:
        assert len(moment["updates"]) == len(moment["last_step"]) == 10
        for between, last in zip(moment["updates"], moment["last_step"], strict=True):
            assert between["name"] == last["name"]
            assert between["ratio"] == pytest.approx(last["ratio"], rel=1e-3)
    assert [one["name"] for one in history[0]["parameters"]][:3] == ["conv1.weight", "conv1.bias", "conv2.weight"]
    # An earlier bundle knows nothing of later ones.
    early = json.loads(call(f"{trained}@3 --of updates --over-time --json"))
    assert [moment["step"] for moment in early["over_time"]] == [1, 2, 3]
    assert next(iter(early["updates"])) == "from step 2 to 3"


def test_vectors_are_called_biases_and_norms(convolutional_run, call, monkeypatch):
    monkeypatch.chdir(convolutional_run.parent)
    assert "histograms of the biases and norms: histograms/biases.png" in call("run --of biases")
    assert [one["name"] for one in json.loads(call("run --of biases --json --tensorboard"))["biases and norms"]][
        :1
    ] == ["conv1.bias"]
    events = EventAccumulator(str(convolutional_run / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    assert any("biases and norms" in tag for tag in events.Tags()["histograms"])


def test_into_tensorboard(trained, call):
    said = call(f"{trained}@3 --of gradients updates --over-time --tensorboard --json")
    assert json.loads(said)["gradients"]
    events = EventAccumulator(str(Run(trained).tensorboard), size_guidance={"histograms": 0})
    events.Reload()
    tags = events.Tags()
    assert "inspect gradients/conv1/weight" in tags["histograms"]
    assert any(tag.startswith("inspect updates/in step") for tag in tags["images"])
    followed = events.Histograms("inspect parameters/out/bias")
    assert [event.step for event in followed] == [1, 2, 3]
    assert followed[0].histogram_value.num == 3


def test_a_bundle_by_itself_and_one_whose_neighbour_is_damaged(trained, call, tmp_path):
    bundle = Run(trained).bundle_paths()[4]
    alone = tmp_path / "alone"
    shutil.copytree(bundle, alone)
    found = json.loads(call("alone --of updates --json"))
    assert list(found["updates"]) == ["in step 5, learning rate " + next(iter(found["updates"])).rpartition(" ")[2]]
    assert "lies in no run" in call("alone --tensorboard", code=1)
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (Run(copy).bundle_paths()[1] / "manifest.json").write_text("{")
    found = json.loads(call("copy@4 --of updates --over-time --json"))
    assert "Left out: " in found["notes"][0]
    assert [moment["step"] for moment in found["over_time"]] == [1, 3, 4]


def test_a_single_bundle_over_time_is_no_chart_but_a_sentence(trained, call):
    said = call(f"{trained}@1 --over-time --out alone")
    last = Run(trained).bundles()[-1].manifest.progress.step
    assert f"no bundle before step 1 to follow it from; {trained}@last has those up to step {last}." in said
    assert {file.name for file in Path("alone").iterdir()} == {"weights.png"}
    shutil.copytree(Run(trained).bundle_paths()[0], "bundle")
    assert "train with --keep-last or --keep-every to keep more." in call("bundle --over-time")


def test_wrong_usage_and_data_that_is_gone(trained, call):
    assert "--pictures" in call(f"{trained} --pictures 0", code=1)
    assert "no folder 'nowhere'" in call(f"{trained} --of gradients --data folder:nowhere", code=1)
