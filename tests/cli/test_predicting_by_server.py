"""`cutaway predict --server`: the same answers as from the file itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cutaway.cli import main
from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.models import Loaded, Served

KEY = "an-api-key-of-the-tests"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The mean of each channel stands for a class."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["in", "sides"], ["out"], keepdims=0)],
        "g",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([2, 3]), "sides")],
    )
    path = tmp_path_factory.mktemp("model") / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    (path.parent / "prep.json").write_text(json.dumps({"size": [4, 4], "mean": [0, 0, 0], "std": [1, 1, 1]}))
    return path


@pytest.fixture(scope="module")
def url(model) -> Iterator[str]:
    preprocessing = Preprocessing(size=(4, 4), mean=(0, 0, 0), std=(1, 1, 1))
    classifier = Classifier(model, classes=["red", "green", "blue"], preprocessing=preprocessing, scores="logits")
    app = create_app(classifier, page=False, keys=[KEY], limits=ServingLimits(max_images=20))
    with server.running(app) as url:
        yield url


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for number in range(19):  # more than one request takes
        Image.new("RGB", (5, 4), [(255, 0, 0), (0, 255, 0), (0, 0, 255)][number % 3]).save(
            tmp_path / f"{number:02}.png"
        )
    (tmp_path / "key").write_text(KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", ["--json", "--csv", None])
@pytest.mark.parametrize("names", [["."], ["*.png"], ["03.png", "00.png", "*1.png"]])
def test_the_answers_are_those_of_the_file(model, url, folder, capsys, names, form) -> None:
    forms = [form] if form else []
    here = ["--classes", "red,green,blue", "--preprocessing", str(model.parent / "prep.json"), "--scores", "logits"]
    assert main(["predict", str(model), *names, *forms, *here]) == 0
    expected = capsys.readouterr().out
    assert main(["predict", *names, *forms, "--server", url, "--api-key-file", "key"]) == 0
    answered = capsys.readouterr().out
    if form == "--json":
        for one, other in zip(json.loads(answered), json.loads(expected), strict=True):
            assert [score["label"] for score in one["top"]] == [score["label"] for score in other["top"]]
            assert one["top"][0]["probability"] == pytest.approx(other["top"][0]["probability"], abs=1e-6)
            assert one.keys() == other.keys()
    elif form == "--csv":
        assert [line.rpartition(",")[0] for line in answered.splitlines()] == [
            line.rpartition(",")[0] for line in expected.splitlines()
        ]
    else:
        assert answered == expected


def test_one_of_several_models_is_asked(model, folder, capsys) -> None:
    preprocessing = Preprocessing(size=(4, 4), mean=(0, 0, 0), std=(1, 1, 1))
    models = [
        Served(name, Loaded(Classifier(model, classes=names, preprocessing=preprocessing, scores="logits")))
        for name, names in (("english", ["red", "green", "blue"]), ("german", ["rot", "grün", "blau"]))
    ]
    with server.running(create_app(models, page=False)) as url:
        assert main(["predict", "00.png", "--server", url, "--csv"]) == 0
        assert main(["predict", "00.png", "--server", url, "--csv", "--server-model", "german"]) == 0
    said = capsys.readouterr().out
    assert "00.png,red," in said
    assert "00.png,rot," in said


def test_a_broken_picture_is_named_and_the_others_are_answered(url, folder, capsys) -> None:
    (folder / "05.png").write_bytes(b"no picture")
    assert main(["predict", ".", "--server", url, "--api-key-file", "key", "--json"]) == 1
    told = capsys.readouterr()
    entries = json.loads(told.out)
    assert len(entries) == 19
    assert "cannot be decoded" in entries[5]["error"]
    assert all("top" in entry for entry in entries[:5] + entries[6:])
    assert "05.png" in told.err
    assert "1 of 19" in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["00.png", "--server", "URL"], "asks for a key"),
        (["00.png", "--server", "http://127.0.0.1:9"], "No server answers"),
        (["00.png", "--server", "nowhere"], "not the address of a server"),
        (["model.onnx", "00.png", "--server", "URL"], "no model to name"),
        (["00.png", "--server", "URL", "--provider", "cpu"], "the server's business"),
        (["00.png", "--server", "URL", "--api-key-file", "none"], "cannot be read"),
        (["none.png", "--server", "URL"], "no picture at none.png"),
        (["model.onnx", "00.png", "--api-key-file", "key"], "no server is named"),
        (["model.onnx", "00.png", "--server-model", "other"], "no server is named"),
        (["00.png", "--server", "URL"], "--api-key-file"),
        (["00.png", "--server", "URL", "--api-key-file", "key", "--server-model", "shoes"], "no model 'shoes'"),
        (["00.png", "--server", "URL", "--server-certificates", "key"], "as certificates"),
    ],
)
def test_what_is_said_wrongly_is_told(url, folder, capsys, words, said) -> None:
    assert main(["predict", *(url if word == "URL" else word for word in words)]) == 1
    assert said in capsys.readouterr().err
