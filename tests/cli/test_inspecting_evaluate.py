"""`cutaway evaluate` on bundles of untrained networks."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from cutaway.checkpoints import restore, write_bundle
from cutaway.checkpoints.runs import find
from cutaway.cli import main
from cutaway.cli.inspecting import evaluation_files
from cutaway.datasets import load
from cutaway.evaluation import evaluate


def evaluated(capsys, *words):
    assert main(["evaluate", *words]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def rows(file):
    with Path(file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def another(run, name, **changes):
    """A copy of a run whose bundle has other weights, and what else is changed in its manifest."""
    shutil.copytree(run, name)
    stored = find(name)
    shutil.rmtree(stored.path)
    restored = restore(run)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tensors = {key: value + 0.05 * torch.randn_like(value) for key, value in restored.network.state_dict().items()}
    write_bundle(stored.path, stored.manifest.model_copy(update=changes), {"model": tensors})
    return name


@pytest.fixture
def drawn():
    """For a test that looks at the figures."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Figures take seconds, and few of these tests look at them."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(evaluation_files, "figures", lambda evaluated: [])


@pytest.fixture
def answers(convolutional_run):
    restored = restore(convolutional_run)
    return evaluate(restored.network, load("fashion-mnist-sample").test, restored.preprocessing)


@pytest.mark.usefixtures("drawn")
def test_it_prints_tables_and_writes_figures_and_files(convolutional_run, answers, capsys):
    said = evaluated(capsys, str(convolutional_run))
    assert "1,000 pictures of 10 classes" in said
    assert f"{100 * answers.accuracy:.1f} %" in said
    assert "largest confusions" in said
    assert re.search(r"the worst of \d+ bins with pictures, of [\d,]+ picture", said)
    assert "T-shirt/top" in said
    out = Path("evaluation")
    names = {path.name for path in out.iterdir()}
    assert {"confusion.png", "confusion-recall.png", "confusion-precision.png", "calibration.png"} <= names
    assert {"mistakes.png", "confusions.png", "embedding-pca.png"} <= names
    assert all(name in said for name in names)
    for name in names:
        if name.endswith(".png"):
            Image.open(out / name).verify()
    matrix = np.array([[int(cell) for cell in list(row.values())[1:]] for row in rows(out / "confusion.csv")])
    assert np.array_equal(matrix, confusion_matrix(answers.labels, answers.predictions, labels=range(10)))
    predictions = rows(out / "predictions.csv")
    assert [row["sample"] for row in predictions[:2]] == ["test[0]", "test[1]"]
    assert np.mean([int(row["right"]) for row in predictions]) == pytest.approx(answers.accuracy)


def test_json_and_csv_hold_the_figures_of_scikit_learn(convolutional_run, answers, capsys):
    found = json.loads(evaluated(capsys, str(convolutional_run), "--format", "json", "--embedding", "none"))
    assert json.loads(Path("evaluation/evaluation.json").read_text()) == {
        key: value for key, value in found.items() if key != "files"
    }
    precision, recall, f1, support = precision_recall_fscore_support(
        answers.labels, answers.predictions, labels=range(10), zero_division=0
    )
    for index, entry in enumerate(found["classes"]):
        assert (entry["precision"] or 0, entry["recall"], entry["f1"]) == pytest.approx(
            (precision[index], recall[index], f1[index])
        )
        assert (entry["support"], entry["share"]) == (support[index], support[index] / 1000)
    assert found["metrics"]["accuracy"] == answers.accuracy
    assert sum(part["samples"] for part in found["calibration"]["bins"]) == 1000
    assert "embedding" not in found
    printed = evaluated(capsys, str(convolutional_run), "--format", "csv", "--embedding", "none")
    assert printed == Path("evaluation/classes.csv").read_text()
    assert printed.startswith("class,label,support,share,precision,recall,f1,auroc\n0,T-shirt/top,100,0.1,")


def test_against_another_bundle_the_flipped_pictures_are_named(convolutional_run, answers, capsys):
    other = another(convolutional_run, "other")
    found = json.loads(evaluated(capsys, str(convolutional_run), "--against", other, "--format", "json"))["against"]
    restored = restore(other)
    theirs = evaluate(restored.network, load("fashion-mnist-sample").test, restored.preprocessing)
    was, now = theirs.predictions == theirs.labels, answers.predictions == answers.labels
    assert {int(name[5:-1]) for name in found["broken"]} == set((was & ~now).nonzero()[:, 0].tolist())
    assert {int(name[5:-1]) for name in found["mended"]} == set((~was & now).nonzero()[:, 0].tolist())
    assert found["difference"] == pytest.approx(answers.accuracy - theirs.accuracy)
    flips = [row["flip"] for row in rows("evaluation/predictions.csv")]
    assert (flips.count("broken"), flips.count("mended")) == (len(found["broken"]), len(found["mended"]))
    assert found["learned"] == 0
    assert found["broken"]


@pytest.mark.usefixtures("drawn")
def test_flips_and_slices_are_drawn_and_told(convolutional_run, listed, capsys):
    other = another(convolutional_run, "other")
    words = ["--data", listed, "--split", "all", "--slice-by", "camera", "--against", other]
    said = evaluated(capsys, str(convolutional_run), *words)
    assert "McNemar" in said
    assert "cannot be told from here" in said
    for name in ("broken.png", "mended.png", "slices-1.png"):
        assert name in said
        Image.open(Path("evaluation") / name).verify()


def test_pictures_that_the_other_one_learned_are_counted(convolutional_run, capsys):
    other = another(convolutional_run, "other")
    words = ["--split", "train", "--against", other, "--embedding", "none", "--format", "json"]
    found = json.loads(evaluated(capsys, str(convolutional_run), *words))
    assert found["against"]["learned"] == found["samples"] == 5400


def test_classes_in_another_order_are_compared_by_name(convolutional_run, capsys):
    classes = restore(convolutional_run).classes
    turned = (*classes[1:], classes[0])
    restored = restore(convolutional_run)
    state = restored.network.state_dict()
    shutil.copytree(convolutional_run, "turned")
    stored = find("turned")
    shutil.rmtree(stored.path)
    tensors = {name: torch.roll(value, -1, 0) if name.startswith("out.") else value for name, value in state.items()}
    write_bundle(stored.path, stored.manifest.model_copy(update={"classes": turned}), {"model": tensors})
    found = json.loads(
        evaluated(capsys, str(convolutional_run), "--against", "turned", "--format", "json", "--embedding", "none")
    )
    assert (found["against"]["broken"], found["against"]["mended"]) == ([], [])
    assert found["against"]["num_other_mistakes"] == 0


@pytest.fixture
def listed(tmp_path):
    """A CSV list of 60 pictures of the ten classes, dark ones by a camera and bright ones by another."""
    classes = load("fashion-mnist-sample").classes
    noise = np.random.default_rng(0)
    lines = ["path,label,split,Camera,=cmd"]
    for index in range(60):
        bright = index % 2
        Image.fromarray(noise.integers(120 * bright, 120 * bright + 120, (28, 28), dtype=np.uint8)).save(
            tmp_path / f"{index}.png"
        )
        lines.append(f"{index}.png,{classes[index % 10]},{'test' if index >= 20 else 'train'},{'ab'[bright]},=1+1")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return "csv:list.csv"


def test_slices_by_a_column_of_a_list(convolutional_run, listed, capsys):
    words = [str(convolutional_run), "--data", listed, "--slice-by", "camera", "--embedding", "none"]
    said = evaluated(capsys, *words)
    assert "by camera" in said
    assert "more pictures of csv:list.csv are in its other splits: --split all" in said
    found = {row["value"]: row for row in rows("evaluation/slices.csv")}
    predictions = rows("evaluation/predictions.csv")
    for camera in "ab":
        own = [int(row["right"]) for row in predictions if row["camera"] == camera]
        assert (int(found[camera]["num_samples"]), int(found[camera]["num_right"])) == (len(own), sum(own))
    said = evaluated(capsys, *words, "--split", "all")
    assert "all: 60 pictures" in said
    assert "--split all takes" not in said


def test_what_could_be_a_formula_is_disarmed(convolutional_run, listed, capsys):
    Path("list.csv").write_text(Path("list.csv").read_text().replace("=1+1", "=1+1", 30).replace(",=1+1", ",@x", 5))
    evaluated(capsys, str(convolutional_run), "--data", listed, "--split", "all", "--slice-by", "=cmd")
    text = Path("evaluation/predictions.csv").read_text()
    assert ",'=1+1" in text
    assert ",=1+1" not in text
    assert ",'=cmd" in text.splitlines()[0]


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_without_test_pictures_the_validation_s_are_judged_and_that_is_told(convolutional_run, capsys, monkeypatch):
    from cutaway.cli import run_data

    whole = load("fashion-mnist-sample")
    few = replace(whole.valid, images=whole.valid.images[:6], labels=whole.valid.labels[:6])
    none = replace(whole.test, images=whole.test.images[:0], labels=whole.test.labels[:0])
    monkeypatch.setattr(run_data, "data_of", lambda *_, **__: replace(whole, valid=few, test=none))
    for words, is_told in (([], True), (["--split", "valid"], False)):
        assert main(["evaluate", str(convolutional_run), *words]) == 0
        out, err = capsys.readouterr()
        assert "valid: 6 pictures of 10 classes" in out
        assert ("which the choice of the best bundle saw" in err) is is_told
    assert main(["inspect", "report", str(convolutional_run), "--sections", "scores"]) == 0
    assert "which the choice of the best bundle saw" in capsys.readouterr().err
    assert "The choice of the best bundle saw these" in Path("run/report/index.html").read_text()


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["--slice-by", "camera"], "no column 'camera'", "Only pictures of a folder or a CSV list"),
        (["--data", "csv:list.csv", "--slice-by", "hour"], "no column 'hour'", "Columns: folder, camera, =cmd"),
        (["--data", "csv:list.csv", "--slice-by", "folder"], "the same 'folder', namely '.'.", "whose values differ"),
        (["--against", "nowhere"], "no run or bundle at nowhere", ""),
        (["--device", "cuda:99"], "no device 'cuda:99'", "cpu"),
        (["--target-layer", "conv9"], "conv9", ""),
        (["--batch-size", "0"], "--batch-size must be 1", ""),
    ],
)
def test_what_a_person_gets_wrong_is_said(convolutional_run, listed, words, said, hint, capsys):
    assert main(["evaluate", str(convolutional_run), *words]) == 1
    complaint = capsys.readouterr().err
    assert said in complaint
    assert hint in complaint
    assert not Path("evaluation").exists()


def test_umap_says_what_to_install(convolutional_run, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    assert main(["evaluate", str(convolutional_run), "--embedding", "umap"]) == 1
    assert "pip install umap-learn" in capsys.readouterr().err


def test_json_is_the_same_as_the_format(convolutional_run, capsys):
    said = evaluated(capsys, "run", "--json", "--embedding", "none")
    assert json.loads(said) == json.loads(evaluated(capsys, "run", "--format", "json", "--embedding", "none"))
