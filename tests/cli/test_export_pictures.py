"""The pictures that `cutaway export` verifies with, and what the file says of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutaway.checkpoints import write_bundle
from cutaway.checkpoints.runs import find
from cutaway.cli import main
from cutaway.cli.export_pictures import show
from cutaway.cli.export_reference import Exported
from cutaway.cli.export_sources import ForeignOptions, find_source
from cutaway.cli.export_words import tell
from cutaway.errors import DataError, ExportError, ImageError, SettingsError
from cutaway.networks import build
from cutaway.preprocessing import Preprocessing
from cutaway.progress import silent
from cutaway.serve import Classifier, examples_of
from cutaway.serve.export import ExportResult, Figures
from cutaway.serve.metadata import Metadata, Verification


@pytest.fixture
def photos(tmp_path):
    """Three photos without classes in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_file_is_verified_on_the_pictures_that_are_named_and_says_so(convolutional_run, photos, capsys):
    words = ["export", "run", "--no-explain", "--json"]
    Path("m.examples").mkdir()
    assert main([*words, "--verify-data", "photos/0.png", "photos/[12].png", "--out", "m.onnx"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["picture_sizes"][0]) == (3, [40, 50])
    assert "The examples in m.examples are of an earlier export" in told["notes"][0]
    metadata = Classifier("m.onnx", provider="cpu").metadata
    assert metadata.verification.data == "3 pictures named by --verify-data"
    # What the run's own pictures say of the network is in the file all the same.
    assert np.sum(metadata.confusion_matrix) == 1000


def test_without_it_the_file_names_the_split(convolutional_run, photos):
    source = find_source("run", ForeignOptions())
    shown = show(source, None, calibrate=False, track=silent)
    assert (len(shown.images), shown.images_are) == (15, "pictures of the test split")
    other = show(source, "fashion-mnist-sample", calibrate=False, track=silent)
    assert (len(other.images), other.images_are) == (15, "pictures of the test split of what --data names")
    named = show(source, None, calibrate=False, verify_data=["photos"], track=silent)
    assert (len(named.images), named.images_are) == (3, "pictures named by --verify-data")
    assert np.array_equal(named.evaluation.confusion, shown.evaluation.confusion)


@pytest.mark.parametrize("correlation", [None, 0.9999])
def test_flat_heat_maps_and_scores_that_look_like_probabilities_are_told(correlation, capsys):
    spec = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.2,) * 3)
    metadata = Metadata(
        classes=("a", "b"),
        preprocessing=spec,
        network="n",
        target_layer="conv",
        method="grad-cam",
        verification=Verification(data="1 given pictures", thresholds={}),
    )
    figures = Figures(1, 15, (1,), (), 0.0, 1.0, 1.0, 0.0, 1.0, heatmap_correlation=correlation, heatmap_share=1.0)
    figures = replace(figures, scores_in_unit_range=correlation is None)
    tell(Exported(ExportResult(Path("n.onnx"), 9, metadata, figures)))
    said = capsys.readouterr().out
    assert ("are flat" in said) == ("softmax or sigmoid" in said) == (correlation is None)


def test_a_run_whose_data_is_gone_is_exported_without_a_confusion_matrix_and_that_is_told(convolutional_run, photos):
    stored = find("run")
    gone = stored.manifest.model_copy(
        update={"configuration": dict(stored.manifest.configuration) | {"data": "folder:gone"}}
    )
    shutil.rmtree(stored.path)
    write_bundle(stored.path, gone, {"model": dict(build(gone.network).state_dict())})
    source = find_source("run", ForeignOptions())
    with pytest.raises(DataError, match="cannot be loaded"):
        show(source, None, calibrate=False, track=silent)
    with pytest.raises(DataError, match="cannot be loaded"):
        show(source, None, calibrate=True, verify_data=["photos"], track=silent)
    shown = show(source, None, calibrate=False, verify_data=["photos"], track=silent)
    assert (len(shown.images), shown.evaluation) == (3, None)
    assert "The file holds no confusion matrix: The data that" in shown.notes[0]


def test_a_picture_that_cannot_be_decoded_is_named(convolutional_run, photos):
    Path("photos/1.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"photos/1\.png: "):
        show(find_source("run", ForeignOptions()), None, calibrate=False, verify_data=["photos"], track=silent)


def test_examples_lie_beside_the_file_and_are_told(convolutional_run, capsys):
    assert main(["export", "run", "--no-explain", "--examples", "10"]) == 0
    assert "beside it are 10 example pictures with their true labels: run/export/model.examples" in (
        capsys.readouterr().out
    )
    examples = examples_of("run/export/model.onnx", Classifier("run/export/model.onnx", provider="cpu").classes)
    assert [example.class_index for example in examples] == list(range(10))
    words = ["--precision", "fp16", "--max-accuracy-drop", "1", "--no-explain", "--json"]
    assert main(["export", "run", *words, "--examples", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["examples"], told["num_examples"]) == ("run/export/model-fp16.examples", 3)
    assert len(examples_of(told["path"])) == 3
    assert told["notes"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--examples", "3", "--compare"], "nothing to put --examples beside"),
        (["--examples", "-1"], "a number from 1 to 1000"),
        (["--examples", "3"], r"what is there is none"),
        (["--examples", "3", "--precision", "fp16", "--out", "run/export/model.onnx"], r"what is there is none"),
    ],
)
def test_examples_that_cannot_be_are_refused_before_anything_is_exported(words, said, convolutional_run, capsys):
    mine = Path("run/export/model.examples/mine.png")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert main(["export", "run", *words]) == 1
    assert said in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert list(Path("run/export").iterdir()) == [mine.parent]


def test_examples_need_true_labels(convolutional_run, photos, monkeypatch):
    source = replace(find_source("run", ForeignOptions()), restored=None)
    with pytest.raises(SettingsError, match="--examples needs pictures of known classes"):
        show(source, None, calibrate=False, examples=True, track=silent)
    shown = show(source, "fashion-mnist-sample", calibrate=False, examples=True, track=silent)
    assert len(shown.dataset.test) == 1000
    learned = replace(shown.dataset, valid=shown.dataset.valid.take([]), test=shown.dataset.test.take([]))
    monkeypatch.setattr("cutaway.datasets.load", lambda *_, **__: learned)
    monkeypatch.setattr("cutaway.cli.run_data.load", lambda *_, **__: learned)
    with pytest.raises(ExportError, match="neither a test nor a validation split"):
        show(source, "learned", calibrate=False, examples=True, track=silent)
