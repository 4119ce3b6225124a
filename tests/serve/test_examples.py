"""Example pictures beside a file, as a stranger could have left them there."""

import json
import os

import pytest

from cutaway.errors import ServingError
from cutaway.serve import examples_of
from cutaway.serve.examples import Example, examples_folder

GOOD = {
    "format_version": 1,
    "split": "test",
    "examples": [
        {"file": "0.png", "label": "cat", "class_index": 0},
        {"file": "1.jpg", "label": "dog", "class_index": 1},
    ],
}


@pytest.fixture
def model(tmp_path):
    """The path of a file with two examples beside it."""
    folder = tmp_path / "pets.examples"
    folder.mkdir()
    for name in ("0.png", "1.jpg"):
        (folder / name).write_bytes(b"a picture")
    (folder / "index.json").write_text(json.dumps(GOOD))
    return tmp_path / "pets.onnx"


def changed(model, **changes):
    (examples_folder(model) / "index.json").write_text(json.dumps(GOOD | changes))


def test_examples_are_read_in_order_and_a_file_without_any_has_none(model, tmp_path):
    folder = tmp_path / "pets.examples"
    assert examples_of(str(model), ["cat", "dog"]) == (
        Example(folder / "0.png", "cat", 0),
        Example(folder / "1.jpg", "dog", 1),
    )
    assert examples_of(tmp_path / "other.onnx") == ()


@pytest.mark.parametrize(
    "name", ["../0.png", "a/0.png", "/etc/0.png", "..", "0.png\n", "0.svg", "C:0.png", "00000.png", "0.png\0", ""]
)
def test_names_that_could_lead_elsewhere_are_refused(name, model):
    changed(model, examples=[{"file": name, "label": "cat", "class_index": 0}])
    with pytest.raises(ServingError, match=r"is damaged: examples\.0\.file"):
        examples_of(model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 2}, "format_version"),
        ({"split": "train"}, "split"),
        ({"examples": []}, "examples"),
        ({"examples": GOOD["examples"][:1] * 2}, "there twice"),
        ({"examples": [GOOD["examples"][0] | {"class_index": -1}]}, "class_index"),
        ({"examples": [GOOD["examples"][0] | {"url": "x"}]}, "url"),
        ({"more": 1}, "more"),
    ],
)
def test_another_schema_is_refused(changes, said, model):
    changed(model, **changes)
    with pytest.raises(ServingError, match=said):
        examples_of(model)


def test_labels_of_another_file_are_refused_where_its_classes_are_known(model):
    for classes in (["dog", "cat"], ["cat"]):
        with pytest.raises(ServingError, match="of other classes than"):
            examples_of(model, classes)


def test_what_is_missing_or_no_file_is_refused(model):
    picture = examples_folder(model) / "1.jpg"
    picture.unlink()
    with pytest.raises(ServingError, match=r"1\.jpg is missing"):
        examples_of(model)
    picture.mkdir()
    with pytest.raises(ServingError, match=r"1\.jpg are no file"):
        examples_of(model)
    picture.rmdir()
    os.mkfifo(picture)  # which would be waited for
    with pytest.raises(ServingError, match=r"1\.jpg are no file"):
        examples_of(model)
    (examples_folder(model) / "index.json").unlink()
    with pytest.raises(ServingError, match=r"index\.json is missing"):
        examples_of(model)


@pytest.mark.parametrize("name", ["1.jpg", "index.json"])
def test_a_link_is_refused(name, model, tmp_path):
    place = examples_folder(model) / name
    place.rename(tmp_path / name)
    place.symlink_to(tmp_path / name)
    with pytest.raises(ServingError, match=f"{name} are a link"):
        examples_of(model)


def test_a_folder_that_is_a_link_or_a_file_is_refused(model, tmp_path):
    for to in (model.with_suffix(".examples"), tmp_path / "nowhere"):
        (tmp_path / "other.examples").symlink_to(to)
        with pytest.raises(ServingError, match="are a link"):
            examples_of(tmp_path / "other.onnx")
        (tmp_path / "other.examples").unlink()
    (tmp_path / "other.examples").write_text("")
    with pytest.raises(ServingError, match="are no folder"):
        examples_of(tmp_path / "other.onnx")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * 2**21])
def test_an_index_that_is_none_is_refused(content, model):
    (examples_folder(model) / "index.json").write_bytes(content)
    with pytest.raises(ServingError, match="The index of examples"):
        examples_of(model)
