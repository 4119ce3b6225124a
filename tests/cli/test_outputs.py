"""Where commands write: refused before the work begins, and never over a bundle or another kind of file."""

import shutil
from pathlib import Path

import pytest

from cutaway.cli import main
from cutaway.cli.outputs import Kind, require_file, require_folder
from cutaway.errors import SettingsError

TO_FOLDERS = [
    ["inspect", "cam", "run", "--images", "photo.png"],
    ["inspect", "attribution", "run", "--images", "photo.png"],
    ["inspect", "features", "run", "--images", "photo.png"],
    ["inspect", "channels", "run"],
    ["inspect", "histograms", "run"],
    ["inspect", "faithfulness", "run", "--images", "photo.png"],
    ["inspect", "report", "run"],
    ["evaluate", "run"],
]


@pytest.fixture
def bundle(convolutional_run):
    Path("notes.txt").write_text("mine")
    return next(Path("run/checkpoints").iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("words", TO_FOLDERS, ids=" ".join)
def test_a_folder_is_refused_before_the_work_where_nothing_can_be_written(bundle, words, capsys):
    # Before the bundle is read, which this one could not be.
    shutil.move(bundle / "manifest.json", "manifest.json")
    assert main([*words, "--out", "notes.txt"]) == 1
    assert "notes.txt: Not a directory" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--out", "notes.txt/below"]) == 1
    assert "notes.txt: Not a directory" in " ".join(capsys.readouterr().err.split())
    assert Path("notes.txt").read_text() == "mine"


@pytest.mark.parametrize("words", [*TO_FOLDERS, ["export", "run"], ["inspect", "kernels", "run"]], ids=" ".join)
def test_nothing_is_written_into_a_bundle(bundle, words, capsys):
    before = contents(bundle)
    is_file = words[0] == "export" or "kernels" in words
    assert main([*words, "--out", str(bundle / "model.safetensors" if is_file else bundle / "new")]) == 1
    assert "is a bundle, which never changes" in " ".join(capsys.readouterr().err.split())
    assert contents(bundle) == before


@pytest.mark.parametrize(
    "words", [["export", "run", "--out"], ["inspect", "kernels", "run", "--out"], ["lr-find", "--to"]], ids=" ".join
)
def test_a_file_of_another_kind_is_not_written_over(bundle, words, capsys):
    assert main([*words, "notes.txt"]) == 1
    assert "notes.txt is there" in capsys.readouterr().err
    assert Path("notes.txt").read_text() == "mine"
    assert main([*words, "run"]) == 1
    assert "run is a folder" in capsys.readouterr().err


def test_weights_are_not_written_over_by_the_file_that_is_made_of_them(bundle, capsys):
    shutil.copy(bundle / "model.safetensors", "weights")
    before = Path("weights").read_bytes()
    words = "export --network lenet5 --weights weights --classes a,b --preprocessing grey.json --out weights"
    assert main(words.split()) == 1
    assert "is no ONNX file" in capsys.readouterr().err
    assert Path("weights").read_bytes() == before


def test_a_file_of_its_kind_and_an_empty_one_are_written_over(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("a.png", "empty", "link", "new.png", "new/new.png"):
        require_file(tmp_path / name, Kind.PNG)
    require_folder(tmp_path / "new" / "below")


def test_a_link_into_a_bundle_is_seen_through(bundle):
    Path("link").symlink_to(bundle.resolve())
    with pytest.raises(SettingsError, match="never changes"):
        require_folder(Path("link/below"))
