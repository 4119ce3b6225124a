"""Options that name nothing, too much, or what is out of range: a sentence, and nothing is begun."""

import json
from pathlib import Path

import pytest

import cutaway.serve.export  # noqa: F401 - imported while `evaluate` is patched, it would keep what stands in for it
from cutaway.cli import main

HUGE = "99999999999999999999999"
IMPORT = "checkpoints import weights.pth --network lenet5 --classes a,b"
FOREIGN = "export --network lenet5 --weights none.pth"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("inspect attribution run --images . --method", "No method is named"),
        (f"inspect attribution run --images . --seed {HUGE}", "--seed must lie between 0 and"),
        (f"inspect faithfulness run --seed {HUGE}", "--seed must lie between 0 and"),
        ("inspect faithfulness run --seed -1", "--seed must lie between 0 and"),
        ("inspect channels run --top 100000", "--top must be at most 100"),
        ("inspect histograms run --of", "Nothing is named to look at"),
        ("inspect report run --sections", "No section is named"),
        (f"{IMPORT} --preprocessing imagenet --seed {HUGE}", "--seed must lie between 0 and"),
        (f"{IMPORT} --preprocessing imagenet --image-size -4", "--image-size must lie between 1 and 4096, not -4"),
        (f"{IMPORT} --image-size 99999 --mean 0.5 --std 0.5", "--image-size must lie between 1 and 4096, not 99999"),
        ("checkpoints prune . --keep-last 1", "holds no bundles"),
        ("predict model.onnx . --json --csv", "--json and --csv both say how to print"),
        ("export run --no-explain --method layercam", "--method computes the heat-map, and --no-explain leaves it out"),
        ("export run --no-explain --target-layer conv1", "--target-layer is where the heat-map is read, and --no-ex"),
        ("export run --compare --precision int8", "--compare measures all forms, and --precision int8 makes one"),
        ("export run --precision fp16 --calibration-pictures 9", "--calibration-pictures are for int8"),
        ("export run --max-accuracy-drop 0.5", "--max-accuracy-drop is what smaller forms are held to"),
        ("export run --provider cuda", "--provider is where smaller forms are measured"),
        (f"{FOREIGN} --calibrate", "--calibrate needs pictures of known classes, and nothing names any for lenet5"),
        (f"{FOREIGN} --examples 3", "--examples needs pictures of known classes, and nothing names any for lenet5"),
        (f"{FOREIGN} --data a --verify-data b", "--data and --verify-data both name pictures to verify with"),
    ],
)
def test_it_is_told(convolutional_run, words, said, capsys):
    before = set(Path().rglob("*"))
    assert main(words.split()) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert set(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--opset 17", "Opset 17 cannot be exported"),
        ("--method nothing", "There is no method 'nothing'"),
        ("--precision fp16 --opset 24", "Opset 24 cannot be exported"),
    ],
)
def test_what_cannot_be_exported_is_told_before_any_picture_is_looked_at(
    convolutional_run, words, said, capsys, monkeypatch
):
    monkeypatch.setattr("cutaway.evaluation.evaluate", lambda *_, **__: pytest.fail("the network was asked"))
    assert main(["export", "run", *words.split()]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--precision", "fp16"]])
def test_another_kind_of_file_in_the_usual_place_is_told_of_before_the_work(
    convolutional_run, words, capsys, monkeypatch
):
    monkeypatch.setattr("cutaway.evaluation.evaluate", lambda *_, **__: pytest.fail("the network was asked"))
    mine = Path("run/export") / ("model-fp16.onnx" if words else "model.onnx")
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    assert main(["export", "run", *words]) == 1
    assert "is no ONNX file that a new one could replace" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"


def test_layers_and_channels_that_are_not_named_are_the_usual_ones(convolutional_run, capsys):
    from PIL import Image

    Image.new("L", (28, 28), 99).save("a.png")
    assert main(["inspect", "features", "run", "--images", "a.png", "--layers", "--out", "some"]) == 0
    assert main(["inspect", "features", "run", "--images", "a.png", "--out", "usual"]) == 0
    assert [file.name for file in sorted(Path("some").iterdir())] == [
        file.name for file in sorted(Path("usual").iterdir())
    ]


@pytest.mark.parametrize("command", ["features", "cam", "channels"])
def test_layers_are_named_one_by_one_or_with_commas_between(command, convolutional_run, capsys):
    from PIL import Image

    Image.new("L", (28, 28), 99).save("a.png")
    pictures = ["--top", "0"] if command == "channels" else ["--images", "a.png"]
    told = []
    for layers in (["conv1", "conv2"], ["conv1,conv2"], ["conv1, conv2"]):
        assert main(["inspect", command, "run", *pictures, "--layers", *layers, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1] == told[2]
    assert "conv2" in json.dumps(told[0])
    assert main(["inspect", command, "run", *pictures, "--layers", "conv1,conv9"]) == 1
    assert "'conv9'" in capsys.readouterr().err
