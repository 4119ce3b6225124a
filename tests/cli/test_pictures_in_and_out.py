"""`predict` and `inspect cam` on names and labels that a stranger chose, and on broken pictures among good ones."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cutaway.cli import main, pictures, printable
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import export_module

LABELS = ["=cmd|' /C calc'!A0", "two\x1b[2J\x9b31m\u202elines\nhere", "plain"]
STEERING = set("\x1b\x9b\x07\u202e\x7f")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that finds in grey 2x2 pictures: black is label 0, grey label 1, white label 2."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([-10.0, 0.0, 10.0])[:, None].expand(3, 4))
        network[1].bias.copy_(torch.tensor([20.0, 4.0, -20.0]))
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    grey = Preprocessing(size=(2, 2), color="grey", mean=(0.0,), std=(1.0,))
    export_module(network, grey, LABELS, path, explain=False)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(name, level=0):
    Image.fromarray(np.full((2, 2), level, np.uint8)).save(Path(name), "PNG")


def read_csv(text):
    return list(csv.reader(io.StringIO(text)))[1:]


def test_a_table_of_hostile_names_and_labels_steers_no_terminal(model, folder, capsys):
    picture("a\x1b]0;owned\x07\nb\x9b2J\u202e.png", 128)
    assert main(["predict", str(model), "."]) == 0
    shown = capsys.readouterr().out
    assert not STEERING & set(shown)
    assert len(shown.splitlines()) == 2
    assert "two\ufffd[2J\ufffd31m\ufffdlines\ufffdhere" in shown


def test_a_csv_of_hostile_names_and_labels_holds_no_formula_and_steers_no_terminal(model, folder, capsys):
    for start in "=+-@":
        picture(f"{start}1+1.png")
    picture("\t=1.png")
    picture("x\x1b[2J\n.png", 128)
    assert main(["predict", str(model), *sorted(os.listdir(".")), "--csv"]) == 0  # noqa: PTH208
    shown = capsys.readouterr().out
    assert not STEERING & set(shown)
    rows = read_csv(shown)
    assert {row[0] for row in rows} == {*(f"'{s}1+1.png" for s in "=+-@"), "'\ufffd=1.png", "x\ufffd[2J\ufffd.png"}
    assert {row[1] for row in rows} == {"'" + LABELS[0], "two\ufffd[2J\ufffd31m\ufffdlines\ufffdhere"}


def test_json_of_hostile_names_and_labels_is_escaped_and_means_the_same(model, folder, capsys):
    name = "x\x1b\x7f\x9b\u202e\U000e0041 ä 日本.png"
    picture(name, 128)
    assert main(["predict", str(model), name, "--json"]) == 0
    shown = capsys.readouterr().out
    assert not STEERING & set(shown)
    assert "\U000e0041" not in shown
    assert "ä 日本" in shown
    (entry,) = json.loads(shown)
    assert entry["picture"] == name
    assert entry["top"][0]["label"] == LABELS[1]


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_a_name_that_is_no_utf_8_is_printed_with_a_replacement(model, folder, form):
    picture(os.fsdecode(b"caf\xe9.png"))
    words = [sys.executable, "-m", "cutaway", "predict", str(model), ".", *([form] if form else [])]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert "caf\ufffd.png" in done.stdout.decode()


def test_a_terminal_that_lacks_a_letter_ends_nothing(model, folder):
    picture("日本.png")
    for form, expected in (("--csv", b"??.png"), ("--json", rb"\u65e5\u672c.png")):
        words = [sys.executable, "-m", "cutaway", "predict", str(model), "日本.png", form]
        env = os.environ | {"PYTHONIOENCODING": "ascii"}
        done = subprocess.run(words, capture_output=True, check=False, timeout=60, env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        assert expected in done.stdout


def test_spaces_of_other_widths_are_no_harm():
    assert printable("Screenshot 3.04\u202fPM\u3000\xa0") == "Screenshot 3.04\u202fPM\u3000\xa0"


def good_and_broken():
    picture("a.png", 0)
    Path("b.png").write_bytes(b"no picture")
    picture("c.png", 255)
    Path("d.png").write_bytes(b"")
    return ["a.png", "b.png", "c.png", "d.png"]


def test_a_broken_picture_among_good_ones_costs_only_its_own_answer(model, folder, capsys):
    names = good_and_broken()
    assert main(["predict", str(model), *names, "--csv"]) == 1
    out, err = capsys.readouterr()
    assert [(row[0], row[1]) for row in read_csv(out)] == [("a.png", "'" + LABELS[0]), ("c.png", "plain")]
    assert [line.split(":")[1].strip() for line in err.splitlines() if line.startswith("cutaway")] == [
        "b.png",
        "d.png",
        "error",
    ]
    assert "2 of 4 pictures could not be decoded" in err

    assert main(["predict", str(model), *names, "--json"]) == 1
    entries = json.loads(capsys.readouterr().out)
    assert [entry["picture"] for entry in entries] == names
    assert [set(entry) - {"picture"} for entry in entries] == [{"top"}, {"error"}, {"top"}, {"error"}]
    assert "cannot be decoded" in entries[1]["error"]

    assert main(["predict", str(model), *names]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["picture", "a.png", "c.png"]
    assert main(["predict", str(model), "b.png"]) == 1
    assert capsys.readouterr().out == ""


def test_pictures_are_decoded_a_few_at_a_time_and_forgotten(model, folder, capsys, monkeypatch):
    """Of 40 pictures, never more are alive than a chunk and the one in hand."""
    import weakref

    alive, most = weakref.WeakSet(), []

    class Watched(np.ndarray):
        __hash__ = object.__hash__

    def decode(file):
        pixels = np.zeros((2, 2, 3), np.uint8).view(Watched)
        alive.add(pixels)
        most.append(len(alive))
        return pixels

    for number in range(40):
        picture(f"{number:02}.png")
    monkeypatch.setattr(pictures, "decode", decode)
    assert main(["predict", str(model), ".", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 40
    assert len(most) == 40
    assert max(most) <= 2 * 16


def test_large_pictures_are_decoded_fewer_at_a_time(folder, monkeypatch):
    for number in range(6):
        picture(f"{number}.png")
    files = pictures.picture_files(["."])
    assert [len(chunk) for chunk in pictures.decoded(files, "", at_a_time=4)] == [4, 2]
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 8)
    assert [len(chunk) for chunk in pictures.decoded(files, "", at_a_time=4)] == [2, 2, 2]


def test_cam_draws_what_it_can_and_names_what_it_cannot(convolutional_run, capsys):
    names = good_and_broken()
    assert main(["inspect", "cam", "run", "--images", *names, "--json"]) == 1
    out, err = capsys.readouterr()
    entries = json.loads(out)
    assert [entry["picture"] for entry in entries] == names
    assert [("overlay" in entry, "error" in entry) for entry in entries] == [(True, False), (False, True)] * 2
    assert sorted(name.partition("--")[0] for name in os.listdir("cam")) == ["a", "c"]  # noqa: PTH208
    assert "b.png: " in err
    assert "2 of 4" in err
    assert main(["inspect", "cam", "run", "--images", *names]) == 1
    *lines, how = capsys.readouterr().out.splitlines()
    assert [line.partition("--")[0] for line in lines] == ["cam/a", "cam/c"]
    assert how.startswith("Grad-CAM at ")


def test_overlays_lie_in_folders_as_their_pictures_do(convolutional_run, capsys):
    for name in ("photos/rocket/bild 2.png", "photos/cat/bild 2.png", "photos/cat/bild 2.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        picture(name)
    assert main(["inspect", "cam", "run", "--images", "photos"]) == 0
    made = sorted(str(file).partition("--")[0] for file in Path("cam").rglob("*.png"))
    assert made == ["cam/cat/bild 2", "cam/cat/bild 2-2", "cam/rocket/bild 2"]
    assert "cam/rocket/bild 2--" in capsys.readouterr().out
    assert main(["inspect", "cam", "run", "--images", "photos/rocket", "--out", "one"]) == 0
    assert [path.name.partition("--")[0] for path in Path("one").iterdir()] == ["bild 2"]


LONG = ["é" * 125, "é" * 124 + "f", "犬" * 83, "p" * 251, "p" * 250 + "q"]


@pytest.mark.parametrize("words", ["cam", "cam --top 2 --raw", "cam --sheet", "features --layers conv1", "attribution"])
def test_pictures_with_names_as_long_as_a_file_s_may_be_each_have_their_own(convolutional_run, capsys, words):
    Path("photos").mkdir()
    for name in LONG:
        picture(f"photos/{name}.png")
    command, *options = words.split()
    assert main(["inspect", command, "run", *options, "--images", "photos", "--out", "out"]) == 0
    made = [file.relative_to("out") for file in Path("out").rglob("*.png")]
    assert {str(file)[0] for file in made} == {"é", "犬", "p"}
    assert len({file.parts[0].partition("--")[0] for file in made}) == len(LONG)


@pytest.mark.parametrize("command", ["cam", "cam --top 2", "features --layers conv1", "attribution"])
def test_nothing_is_written_outside_whatever_a_picture_is_called(convolutional_run, capsys, command):
    Path("photos").mkdir()
    for name in ("...png", "..png", "a.png"):
        picture(f"photos/{name}")
    before = set(Path().iterdir())
    files = [f"photos/{name}" for name in ("...png", "..png", "a.png")]
    assert main(["inspect", *command.split()[:1], "run", *command.split()[1:], "--images", *files, "--out", "out"]) == 0
    assert set(Path().iterdir()) - before == {Path("out")}
    assert len(list(Path("out").iterdir())) == 3


def test_feature_maps_are_not_written_over_the_picture_that_they_are_of(convolutional_run, capsys):
    Path("photos").mkdir()
    picture("photos/00-conv1.png", 99)
    before = Path("photos/00-conv1.png").read_bytes()
    words = ["inspect", "features", "run", "--images", "photos/00-conv1.png", "--layers", "conv1", "--out"]
    assert main([*words, "photos"]) == 1
    assert "could replace pictures of yours" in capsys.readouterr().err
    assert Path("photos/00-conv1.png").read_bytes() == before
    assert main([*words, "photos/features"]) == 0


def test_cam_decodes_a_chunk_explains_it_and_only_then_decodes_the_next(convolutional_run, capsys, monkeypatch):
    for number in range(10):
        picture(f"{number}.png")
    written, decode = [], pictures.decode

    def watched(file):
        written.append(len(list(Path("cam").glob("*"))))
        return decode(file)

    monkeypatch.setattr(pictures, "decode", watched)
    assert main(["inspect", "cam", "run", "--images", *(f"{n}.png" for n in range(10))]) == 0
    assert written == [0] * 8 + [8] * 2


def test_no_picture_at_all_is_told(model, capsys):
    assert main(["predict", str(model)]) == 1
    assert "no picture to classify" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["cam", "attribution", "features", "faithfulness"])
def test_no_picture_behind_the_option_is_told(convolutional_run, capsys, command):
    assert main(["inspect", command, "run", "--images"]) == 1
    assert "No pictures are named. " in " ".join(capsys.readouterr().err.split("\n"))
