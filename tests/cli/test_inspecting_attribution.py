"""`cutaway inspect attribution`, as a person types it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway.cli import main


@pytest.fixture
def pictures(convolutional_run):
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise.integers(0, 255, (28, 28), np.uint8)).save(name)
    return ["a.png", "b.png"]


def test_each_picture_gets_a_figure_and_the_gap_is_told(pictures, capsys):
    assert main(["inspect", "attribution", "run", "--images", *pictures, "--out", "made"]) == 0
    out = capsys.readouterr().out
    assert sorted(os.listdir("made")) == ["a.png", "b.png"]  # noqa: PTH208
    assert "made/a.png: " in out
    assert out.count("F(x) - F(baseline) is") == 2
    assert "a gap of" in out
    assert "baseline: the training pictures' mean" in out
    with Image.open("made/a.png") as made:
        assert made.size[0] > 500


def test_several_methods_as_json(pictures, capsys):
    command = ["inspect", "attribution", "run", "--images", *pictures, "--label", "Coat", "--json"]
    assert main([*command, "--method", "deep-lift", "saliency", "--baseline", "black"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["picture"] for entry in entries] == pictures
    for entry in entries:
        assert entry["label"] == "Coat"
        assert 0 < entry["probability"] < 1
        lift = entry["methods"]["deep-lift"]
        assert lift["baseline"] == "black"
        assert lift["sum"] == pytest.approx(lift["difference"], abs=1e-4)
        assert lift["gap"] == pytest.approx(lift["sum"] - lift["difference"])
        assert entry["methods"]["saliency"] == {"reduction": "largest-magnitude"}


def test_noise_follows_from_the_seed(pictures, capsys):
    command = ["inspect", "attribution", "run", "--images", "a.png", "--method", "smooth-grad"]
    drawn = []
    for out, seed in (("one", "0"), ("again", "0"), ("other", "1")):
        assert main([*command, "--seed", seed, "--out", out]) == 0
        drawn.append(Path(out, "a.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_all_are_those_that_fit_the_network(pictures, capsys):
    assert main(["inspect", "attribution", "run", "--images", "a.png", "--method", "all", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert {"saliency", "smooth-grad", "integrated-gradients", "occlusion", "deep-lift"} <= set(entry["methods"])


def test_a_broken_picture_costs_only_its_own_figure(pictures, capsys):
    with open("c.png", "wb") as file:  # noqa: PTH123
        file.write(b"no picture")
    assert main(["inspect", "attribution", "run", "--images", "a.png", "c.png", "--out", "made"]) == 1
    out, err = capsys.readouterr()
    assert os.listdir("made") == ["a.png"]  # noqa: PTH208
    assert "c.png: " in err
    assert "made/a.png" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "magic"], "There is no method 'magic'"),
        (["--method", "grad-cam"], "cutaway inspect cam"),
        (["--method", "integrated-gradient"], "Did you mean integrated-gradients or"),
        (["--label", "hat"], "There is no class 'hat'"),
        (["--images", "nowhere.png"], "no picture at nowhere.png"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(words, said, pictures, capsys):
    assert main(["inspect", "attribution", "run", "--images", "a.png", *words]) == 1
    assert said in capsys.readouterr().err
