"""`cutaway inspect faithfulness`, as a person types it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway.cli import main


@pytest.fixture
def pictures(convolutional_run):
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(noise.integers(0, 255, (28, 28), np.uint8)).save(name)
    return ["a.png", "b.png", "c.png"]


FEW = ["--methods", "saliency", "grad-cam", "--metrics", "deletion", "insertion"]


def test_a_table_with_errors_and_a_figure(pictures, capsys):
    command = ["inspect", "faithfulness", "run", "--images", *pictures, *FEW, "--out", "made"]
    assert main(command) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "mean over 3 pictures, ± its standard error"
    assert lines[1].split()[:3] == ["method", "deletion", "AUC"]
    assert [line.split("  ")[0] for line in lines[2:8]] == [
        *("saliency", "grad-cam", "(random pixels)", "(random patches)", "(edges)", "(centre)")
    ]
    assert "lower is better: deletion AUC" in out
    assert "higher is better: insertion AUC" in out
    assert "of 3 pictures chance decides" in lines[-2]
    assert "picture by picture" not in out
    assert Path("made/curves.png").stat().st_size > 10_000


def test_the_figure_goes_into_the_runs_events(pictures, capsys):
    command = ["inspect", "faithfulness", "run", "--images", "a.png", *FEW, "--tensorboard"]
    assert main(command) == 0
    assert "tensorboard --logdir run" in capsys.readouterr().out
    (file,) = Path("run/tensorboard").glob("*.inspect")
    assert b"inspect faithfulness/curves" in file.read_bytes()


def test_a_bundle_outside_a_run_has_no_events(pictures, capsys):
    (bundle,) = Path("run/checkpoints").iterdir()
    bundle.rename("alone")
    assert main(["inspect", "faithfulness", "alone", "--images", "a.png", *FEW, "--tensorboard"]) == 1
    assert "lies in no run" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_told(pictures, capsys):
    assert main(["inspect", "faithfulness", "run", "--images", "a.png", "--device", "cuda:77"]) == 1
    assert "no device 'cuda:77'" in capsys.readouterr().err


def test_the_same_as_json(pictures, capsys):
    assert main(["inspect", "faithfulness", "run", "--images", *pictures, *FEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == 3
    assert list(found["methods"]) == ["saliency", "grad-cam", *found["references"]]
    assert found["metrics"]["insertion"]["higher_is_better"]
    assert found["metrics"]["deletion"]["best"] in ("saliency", "grad-cam")
    assert 0 < found["methods"]["saliency"]["deletion"]["mean"] < 1
    assert found["methods"]["edges"]["deletion"]["beats_random"] is None


def test_seed_and_baseline_are_those_that_were_asked_for(pictures, capsys):
    command = ["inspect", "faithfulness", "run", "--images", "a.png", "--methods", "smooth-grad", "--json"]
    means = []
    for words in ([], [], ["--seed", "1"], ["--baseline", "white"]):
        assert main([*command, "--metrics", "deletion", *words]) == 0
        means.append(json.loads(capsys.readouterr().out)["methods"]["smooth-grad"]["deletion"]["mean"])
    assert means[0] == means[1]
    assert len(set(means)) == 3


def test_one_picture_has_no_error_to_tell(pictures, capsys):
    command = ["inspect", "faithfulness", "run", "--images", "a.png", "--methods", "saliency"]
    assert main([*command, "--metrics", "deletion", "max-sensitivity"]) == 0
    out = capsys.readouterr().out
    assert "±nan" not in out
    assert " nan" not in out


def test_the_sanity_check(pictures, capsys):
    command = ["inspect", "faithfulness", "run", "--images", *pictures, "--sanity", "--methods", "saliency"]
    assert main([*command, "--out", "made"]) == 0
    out = capsys.readouterr().out
    assert "rank correlation" in out
    assert "another one where its mean correlation falls below 0.5" in out
    assert "saliency" in out
    assert Path("made/sanity.png").exists()
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["saliency"]
    assert len(found["layers"]) == len(found["rank_correlation"]) == len(found["similarity"])
    assert isinstance(found["depends_on_weights"], bool)


def test_intervals_their_cut_off_and_which_map_to_believe(convolutional_run, capsys):
    command = ["inspect", "faithfulness", "run", "--data", "fashion-mnist-sample", "--pictures", "6", *FEW]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "intervals of 95 %" in out
    assert "2.65 standard errors of the 6 differences" in out
    (said,) = (line for line in out.splitlines() if line.startswith(("Believe ", "Cannot tell which to believe: ")))
    assert ("the same command tells with --sanity" in out) == said.startswith("Believe ")
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["sentence"] == said
    assert found["cut_off"] == pytest.approx(2.65, abs=0.005)
    for metrics in found["methods"].values():
        for one in metrics.values():
            lead = one["lead_over_random"]
            assert (lead is None) is (one["beats_random"] is None)
            assert lead is None or one["beats_random"] is (lead["low"] > 0)


@pytest.mark.slow
def test_pictures_are_drawn_from_the_data(convolutional_run, capsys):
    command = ["inspect", "faithfulness", "run", "--data", "fashion-mnist-sample", "--pictures", "7", *FEW, "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "magic"], "There is no method 'magic'"),
        (["--methods", "gradcam"], "Did you mean grad-cam"),
        (["--metrics", "magic"], "There is no metric 'magic'"),
        (["--pictures", "0"], "--pictures must be at least 1"),
        (["--data", "mnist"], "--images and --data both name pictures"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(words, said, pictures, capsys):
    assert main(["inspect", "faithfulness", "run", "--images", "a.png", *words]) == 1
    assert said in capsys.readouterr().err


def test_without_test_pictures_the_validation_s_are_measured_and_that_is_told(convolutional_run, capsys, monkeypatch):
    from cutaway.cli import run_data
    from cutaway.datasets import load

    whole = load("fashion-mnist-sample")
    few = replace(whole.valid, images=whole.valid.images[:4], labels=whole.valid.labels[:4])
    none = replace(whole.test, images=whole.test.images[:0], labels=whole.test.labels[:0])
    monkeypatch.setattr(run_data, "data_of", lambda *_, **__: replace(whole, valid=few, test=none))
    command = ["inspect", "faithfulness", "run", "--methods", "saliency", "--metrics", "deletion"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("mean over 4 pictures of the valid split, ")
    assert "no test pictures" in err
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "valid"
