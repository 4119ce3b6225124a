from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cutaway.errors import ServingError
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.examples import Example, examples_of
from cutaway.serve.page.gallery import Gallery, verdict
from cutaway.serve.uploads import make_room, upload_folder


@pytest.fixture
def model(model_path: Path, tmp_path: Path, pictures) -> Path:
    """A model with two examples beside it, the second of which the network gets wrong."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model_path.read_bytes())
    folder = tmp_path / "model.examples"
    folder.mkdir()
    entries = []
    for index, (color, label) in enumerate((("red", "red"), ("blue", "grey"))):
        Image.fromarray(pictures(color)).save(folder / f"{index}.png")
        class_index = ("red", "green", "blue", "grey").index(label)
        entries.append({"file": f"{index}.png", "label": label, "class_index": class_index})
    (folder / "index.json").write_text(json.dumps({"format_version": 1, "split": "test", "examples": entries}))
    return path


@pytest.fixture
def client(model: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Classifier(model, provider="cpu")), base_url="http://127.0.0.1") as client:
        yield client


def test_example_takes_the_place_of_the_picture_and_its_true_class_is_told(classes_in, client, ask) -> None:
    (picture,) = ask(client, "gallery", "click", [], {"index": 1})[-1]["output"]["data"]

    shown = client.get(f"/gradio_api/file={picture['path']}").content
    assert shown.startswith(b"\x89PNG")
    answer = ask(client, "input-image", "change", [picture, -1, -3])[-1]["output"]["data"]
    assert classes_in(answer[0])[0] == "blue"
    assert "True class: <strong><bdi>grey</bdi></strong>. The network is wrong: it says <bdi>blue</bdi>." in answer[2]

    (picture,) = ask(client, "gallery", "click", [], {"index": 0})[-1]["output"]["data"]
    answer = ask(client, "input-image", "change", [picture, -1, -3])[-1]["output"]["data"]
    assert "True class: <strong><bdi>red</bdi></strong>. The network is right." in answer[2]


@pytest.mark.parametrize(
    "event_data", [None, {}, [1], {"index": 2}, {"index": -1}, {"index": "../../x"}, {"index": 0.5}]
)
def test_no_other_example_can_be_asked_for(client, ask, event_data) -> None:
    before = set(upload_folder().rglob("*"))

    messages = ask(client, "gallery", "click", [], event_data)

    assert any("There is no such example" in message.get("log", "") for message in messages)
    assert set(upload_folder().rglob("*")) == before


def test_page_without_examples_has_no_gallery(model_path: Path) -> None:
    with TestClient(create_app(Classifier(model_path, provider="cpu")), base_url="http://127.0.0.1") as client:
        assert "gallery" not in {block["props"].get("elem_id") for block in client.get("/config").json()["components"]}


def test_visitors_picture_has_no_true_class(model: Path, tmp_path: Path) -> None:
    gallery = Gallery(examples_of(model))

    assert gallery.example(tmp_path / "0.png") is None
    first = gallery.picture(0)
    assert gallery.example(first).label == "red"
    assert gallery.example(first.with_name("7.png")) is None
    assert Gallery(examples_of(model)).example(first) is None


def test_example_is_there_again_after_uploads_took_its_room(model: Path) -> None:
    gallery = Gallery(examples_of(model))
    shown = gallery.picture(0)
    make_room(0)
    assert not shown.exists()
    assert gallery.picture(0).exists()


def test_broken_example_stops_the_server_with_its_name(model: Path) -> None:
    (model.parent / "model.examples" / "1.png").write_bytes(b"no picture")

    with pytest.raises(ServingError, match=r"model\.examples/1\.png cannot be shown"):
        create_app(Classifier(model, provider="cpu"))


def test_labels_are_escaped_and_only_the_first_sixty_shown(tmp_path: Path, model_path: Path, pictures) -> None:
    Image.fromarray(np.uint8(pictures("red"))).save(tmp_path / "0.png")
    example = Example(tmp_path / "0.png", "<b>", 0)
    (prediction,) = Classifier(model_path, provider="cpu")([pictures("blue")])

    html = Gallery([example] * 70).html()

    assert len(re.findall("<button", html)) == 60
    assert "<b>" not in html
    assert "<b>" not in verdict(example, prediction)
