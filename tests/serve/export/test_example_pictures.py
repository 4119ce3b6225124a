"""Which pictures are put beside a file, that they are the run's own, and that nothing else is touched."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cutaway.datasets import Split
from cutaway.errors import ExportError
from cutaway.images import decode
from cutaway.serve import examples_of, writing
from cutaway.serve.export.example_pictures import choose, write_examples


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_as_many_of_each_class_as_can_be_spread_over_its_pictures():
    labels = np.array([0] * 10 + [1] * 2 + [2] * 10)
    assert choose(labels, 9) == [0, 3, 6, 9, 10, 11, 12, 16, 21]
    assert choose(labels, 2) == [0, 12]
    assert choose(labels, 1) == [0]
    assert choose(labels, 100) == list(range(22))
    assert choose(np.array([3, 1, 3, 1]), 4) == [1, 3, 0, 2]


def test_small_pictures_keep_every_pixel_and_their_true_labels(fashion, tmp_path):
    model = tmp_path / "m.onnx"
    examples = write_examples(model, fashion, 20)
    assert [example.class_index for example in examples] == [number // 2 for number in range(20)]
    places = choose(fashion.test.labels, 20)
    for example, place in zip(examples, places, strict=True):
        assert example.label == fashion.classes[fashion.test.labels[place]]
        assert np.array_equal(decode(example.path), np.repeat(fashion.test.image(place), 3, axis=2))
    assert examples_of(model, fashion.classes) == examples
    assert list(tmp_path.iterdir()) == [tmp_path / "m.examples"]
    first = contents(tmp_path / "m.examples")
    write_examples(model, fashion, 20)
    assert contents(tmp_path / "m.examples") == first


def test_large_photos_become_jpeg_without_what_the_camera_noted(fashion, tmp_path):
    smooth = np.linspace(0, 255, 300 * 400 * 3).reshape(300, 400, 3).astype(np.uint8)
    test = Split("test", np.array([1]), photos=(smooth,))
    pets = replace(fashion, classes=("cat", "dog"), train=test.take([]), valid=test.take([]), test=test)
    (example,) = write_examples(tmp_path / "m.onnx", pets, 5)
    assert example.path.suffix == ".jpg"
    assert example.label == "dog"
    assert np.abs(decode(example.path).astype(int) - smooth).max() <= 4
    assert b"Exif" not in example.path.read_bytes()


def test_without_a_test_split_they_are_of_the_validation_split_and_never_of_training(fashion, tmp_path):
    nothing = fashion.test.take([])
    write_examples(tmp_path / "m.onnx", replace(fashion, test=nothing), 3)
    assert json.loads((tmp_path / "m.examples" / "index.json").read_text())["split"] == "valid"
    with pytest.raises(ExportError, match="neither a test nor a validation split"):
        write_examples(tmp_path / "n.onnx", replace(fashion, test=nothing, valid=nothing), 3)
    assert not (tmp_path / "n.examples").exists()


def test_an_earlier_folder_is_replaced_and_nothing_beside_it(fashion, tmp_path):
    model, beside = tmp_path / "m.onnx", tmp_path / "n.examples"
    beside.mkdir()
    (beside / "mine.png").write_bytes(b"mine")
    write_examples(model, fashion, 30)
    write_examples(model, fashion, 2)
    assert sorted(contents(tmp_path / "m.examples")) == ["0.png", "1.png", "index.json"]
    assert contents(beside) == {"mine.png": b"mine"}


def test_a_folder_with_something_else_in_it_is_no_place_for_them(fashion, tmp_path):
    model, folder = tmp_path / "m.onnx", tmp_path / "m.examples"
    folder.mkdir()
    (folder / "mine.png").write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"what is there is none: .*index\.json is missing"):
        write_examples(model, fashion, 2)
    (folder / "mine.png").unlink()
    folder.rmdir()
    write_examples(model, fashion, 2)
    (folder / "mine.png").write_bytes(b"mine")
    before = contents(folder)
    with pytest.raises(ExportError, match=r"would be replaced, and mine\.png there is none"):
        write_examples(model, fashion, 3)
    assert contents(folder) == before
    (tmp_path / "l.examples").symlink_to(folder)
    with pytest.raises(ExportError, match="are a link"):
        write_examples(tmp_path / "l.onnx", fashion, 3)


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_a_number_out_of_range_is_refused(count, fashion, tmp_path):
    with pytest.raises(ExportError, match="a number from 1 to 1000"):
        write_examples(tmp_path / "m.onnx", fashion, count)


def test_a_disk_that_fills_up_leaves_the_earlier_folder(fashion, tmp_path, monkeypatch):
    write_examples(tmp_path / "m.onnx", fashion, 2)
    before, real = contents(tmp_path / "m.examples"), writing.write_synced

    def full(path, content):
        if path.name == "3.png":
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(writing, "write_synced", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write_examples(tmp_path / "m.onnx", fashion, 5)
    assert contents(tmp_path / "m.examples") == before
    assert list(tmp_path.iterdir()) == [tmp_path / "m.examples"]


def test_an_earlier_folder_comes_back_where_the_new_one_cannot_take_its_name(fashion, tmp_path, monkeypatch):
    write_examples(tmp_path / "m.onnx", fashion, 2)
    before, real = contents(tmp_path / "m.examples"), Path.rename

    def rename(path, target):
        if Path(target).name == "m.examples" and len(list(path.iterdir())) > 3:
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(ExportError, match="Input/output error"):
        write_examples(tmp_path / "m.onnx", fashion, 5)
    assert contents(tmp_path / "m.examples") == before
    assert list(tmp_path.iterdir()) == [tmp_path / "m.examples"]


def test_what_a_killed_writer_left_is_removed_by_the_next(fashion, tmp_path):
    dead = tmp_path / f".tmp-{2**22 + 7}-0123abcd-m.examples"
    dead.mkdir()
    (dead / "0.png").write_bytes(b"half")
    alive = tmp_path / f".tmp-{os.getppid()}-0123abcd-m.examples"
    alive.mkdir()
    write_examples(tmp_path / "m.onnx", fashion, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "m.examples"]
