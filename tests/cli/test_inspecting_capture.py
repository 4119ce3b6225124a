"""`cutaway inspect capture`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.checkpoints import restore
from cutaway.cli import main
from cutaway.cli.inspecting import tensor_files as writing
from cutaway.datasets import load
from cutaway.errors import InspectionError
from cutaway.inspect.layer_statistics import Recorded

WORDS = ["inspect", "capture", "run", "--data", "fashion-mnist-sample"]


def inputs_of(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(restore("run").preprocessing.normalise(pictures))


@pytest.mark.usefixtures("convolutional_run")
def test_the_table_tells_of_every_layer_over_the_whole_split(capsys) -> None:
    assert main(WORDS) == 0
    shown = capsys.readouterr().out
    assert "1,000 pictures: fashion-mnist-sample, test" in shown
    rows = {line.split()[0]: line.split() for line in shown.splitlines()[2:]}
    assert " ".join(rows) == "conv1 relu1 pool1 conv2 relu2 pool2 flatten fc1 relu3 fc2 relu4 out"
    assert rows["conv1"][1:3] == ["Conv2d", "6×28×28"]
    with torch.inference_mode():
        maps = restore("run").network.eval().conv1(inputs_of(load("fashion-mnist-sample").test.images)).double()
    assert [float(cell) for cell in rows["conv1"][3:6]] == pytest.approx(
        [float(maps.mean()), float(maps.std()), float(maps.min())], rel=6e-3
    )
    quantiles = np.quantile(maps.numpy(), [0.01, 0.99, 1.0])
    assert [float(rows["conv1"][at]) for at in (6, 8, 9)] == pytest.approx(quantiles, rel=1 / 64)


@pytest.mark.usefixtures("convolutional_run")
def test_values_are_written_as_the_network_returns_them(capsys) -> None:
    words = [*WORDS, "--layers", "conv2", "out", "--of", "outputs", "inputs", "gradients", "--batch-size", "3"]
    assert main([*words, "--pictures", "10", "--out", "arrays", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    test = load("fashion-mnist-sample").test
    places = np.linspace(0, len(test) - 1, 10).round().astype(int)
    network = restore("run").network.eval()
    between: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(module, args, output):
            between[name] = output
            between[f"{name}-inputs"] = args[0]
            output.retain_grad()

        return hook

    network.conv2.register_forward_hook(keep("conv2"))
    network.out.register_forward_hook(keep("out"))
    logits = network(inputs_of(test.images[places]))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(test.labels[places]), reduction="sum").backward()
    between |= {f"{name}-gradients": between[name].grad for name in ("conv2", "out")}
    index = json.loads(Path("arrays/index.json").read_text())
    assert index["pictures"] == [f"test[{place}]" for place in places]
    assert index["labels"] == test.labels[places].tolist()
    assert index["classes"][6] == "Shirt"
    assert {entry["file"] for entry in index["tensors"]} == {
        file.name for file in Path("arrays").iterdir() if file.suffix == ".npy"
    }
    for name, tensor in between.items():
        (file,) = Path("arrays").glob(f"0?-{name}.npy")
        written = np.load(file)
        assert written.shape == tuple(tensor.shape)
        np.testing.assert_allclose(written, tensor.detach().numpy(), rtol=1e-4, atol=1e-6)
        layer, _, part = name.partition("-")
        entry = next(one for one in entries if (one["layer"], one["part"]) == (layer, part or "outputs"))
        assert entry["files"] == [str(file)]
        assert entry["count"] == written.size == sum(entry["histogram"]["counts"])
        assert entry["mean"] == pytest.approx(float(written.astype(float).mean()), rel=1e-5, abs=1e-8)
        assert entry["quantiles"]["0.5"] == pytest.approx(float(np.median(written)), rel=0.1, abs=1e-3)
    # A second run over fewer takes the place of the first, and of nothing else.
    Path("arrays/own.npy").write_bytes(b"a person's")
    assert main([*words[:6], "conv2", "--pictures", "4", "--out", "arrays"]) == 0
    assert np.load("arrays/00-conv2.npy").shape == (4, 16, 10, 10)
    assert [one["file"] for one in json.loads(Path("arrays/index.json").read_text())["tensors"]] == ["00-conv2.npy"]
    assert sorted(file.name for file in Path("arrays").iterdir()) == ["00-conv2.npy", "index.json", "own.npy"]


@pytest.mark.usefixtures("convolutional_run")
def test_pictures_by_name_and_one_that_is_broken(capsys) -> None:
    Path("photos").mkdir()
    pictures = load("fashion-mnist-sample").test.images[:5]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture[:, :, 0]).save(f"photos/{number}.png")
    Path("photos/2.png").write_bytes(b"no picture")
    words = ["inspect", "capture", "run", "--images", "photos", "--layers", "out", "--out", "arrays"]
    assert main([*words, "--batch-size", "2"]) == 1
    told = capsys.readouterr()
    assert "4 pictures: those named" in told.out
    assert "photos/2.png" in told.err
    assert "1 of 5 pictures could not be decoded" in told.err
    whole = [0, 1, 3, 4]
    assert json.loads(Path("arrays/index.json").read_text())["pictures"] == [f"photos/{at}.png" for at in whole]
    with torch.inference_mode():
        expected = restore("run").network.eval()(inputs_of(pictures[whole])).numpy()
    np.testing.assert_allclose(np.load("arrays/00-out.npy"), expected, rtol=1e-4, atol=1e-5)
    shutil.rmtree("arrays")
    for file in Path("photos").iterdir():
        file.write_bytes(b"no picture")
    assert main(words) == 1
    assert "5 of 5 pictures could not be decoded" in capsys.readouterr().err
    assert not Path("arrays").exists()


def test_what_goes_wrong_on_the_way_leaves_nothing_and_spares_what_was_there(tmp_path) -> None:
    before = tmp_path / "00-conv1.npy"
    before.write_bytes(b"of an earlier run")
    with writing.tensor_files(tmp_path, 8) as files:
        files.add(recorded(torch.ones(4, 2)))
        assert len(list(tmp_path.iterdir())) == 2
        with pytest.raises(InspectionError, match="another shape"):
            files.add(recorded(torch.ones(4, 3)))
    assert list(tmp_path.iterdir()) == [before]
    assert before.read_bytes() == b"of an earlier run"


def recorded(tensor: torch.Tensor, layer: str = "conv1", part: str = "outputs", pictures: int = 4) -> Recorded:
    return Recorded(layer, part, 0, tensor, pictures)


def test_arrays_of_any_type_and_without_a_row_for_each_picture(tmp_path) -> None:
    with writing.tensor_files(tmp_path, 8) as files:
        for _ in range(2):
            files.add(recorded(torch.arange(4.0).bfloat16(), "half"))
            files.add(recorded(torch.tensor([[True], [False], [True], [True]]), "a/b:mask#0"))
            files.add(recorded(torch.zeros(2, 4), "lstm"))
            files.add(recorded(torch.tensor(1.0), "scalar"))
        files.finish({}, 8)
    assert files.left_out == ["lstm", "scalar"]
    assert np.load(tmp_path / "00-half.npy").tolist() == [0, 1, 2, 3] * 2
    assert np.load(tmp_path / "01-a-b-mask#0.npy").shape == (8, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["00-half.npy", "01-a-b-mask#0.npy", "index.json"]


def test_more_than_the_disk_holds_is_refused_before_it_is_full(tmp_path) -> None:
    many = shutil.disk_usage(tmp_path).free
    with pytest.raises(InspectionError, match="GB left"), writing.tensor_files(tmp_path, many) as files:
        files.add(recorded(torch.ones(4, 2)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("convolutional_run")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--of", "Nothing is named"),
        ("--layers nowhere", "No layer 'nowhere'"),
        ("--quantiles 0.5 2", "from 0 to 1, not 2"),
        ("--pictures 0", "--pictures must be at least 1"),
        ("--batch-size 0", "--batch-size must be at least 1"),
        ("--images there.png", "--images and --data both"),
        ("--device cuda:99", "no device 'cuda:99'"),
        ("--out run/checkpoints/BUNDLE", "never changes"),
    ],
)
def test_wrong_options_are_told_in_words(words, said, capsys) -> None:
    (bundle,) = Path("run/checkpoints").iterdir()
    assert main([*WORDS, *words.replace("BUNDLE", bundle.name).split()]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("convolutional_run")
def test_gradients_of_pictures_without_labels_are_refused(capsys) -> None:
    assert main(["inspect", "capture", "run", "--images", "there.png", "--of", "gradients"]) == 1
    assert "labels" in capsys.readouterr().err


@pytest.mark.usefixtures("convolutional_run")
def test_a_part_that_is_named_twice_is_told_once_and_a_comma_at_the_end_names_nothing(capsys) -> None:
    words = ["--of", "outputs", "outputs", "--layers", "out,", "--pictures", "3", "--json"]
    assert main([*WORDS, *words]) == 0
    assert [entry["layer"] for entry in json.loads(capsys.readouterr().out)] == ["out"]
    assert main([*WORDS, "--layers", "", "--pictures", "3", "--json"]) == 0
    assert [entry["layer"] for entry in json.loads(capsys.readouterr().out)] == [""]


@pytest.mark.usefixtures("convolutional_run")
def test_a_pattern_that_nothing_matches_is_told_without_a_line_of_code(capsys) -> None:
    assert main([*WORDS, "--layers", "out", "*:relu#*", "--pictures", "3"]) == 0
    assert capsys.readouterr().err.startswith("cutaway: No operation '*:relu#*' ran in this network.")


@pytest.mark.usefixtures("convolutional_run")
def test_what_is_not_finite_has_a_column_only_where_there_is_any(capsys) -> None:
    assert main([*WORDS, "--layers", "out", "--pictures", "3"]) == 0
    assert "not finite" not in capsys.readouterr().out


def test_an_index_of_somebody_else_is_refused_before_anything_is_written(tmp_path) -> None:
    index = tmp_path / "index.json"
    for content in (
        '{"tensors": []}',
        "[1]",
        "3",
        "no JSON",
        '{"network": 1, "bundle": 2, "pictures": 3, "tensors": [4]}',
    ):
        index.write_text(content)
        with pytest.raises(InspectionError, match="no index of layers' values"), writing.tensor_files(tmp_path, 8):
            raise AssertionError
        assert index.read_text() == content
        assert list(tmp_path.iterdir()) == [index]


def test_an_index_of_somebody_else_names_no_files_elsewhere_to_remove(tmp_path) -> None:
    folder, beside = tmp_path / "arrays", tmp_path / "own.npy"
    folder.mkdir()
    beside.write_bytes(b"a person's")
    named = [{"file": "../own.npy"}, {"file": str(beside)}, {"file": "notes.txt"}]
    (folder / "notes.txt").touch()
    about = {"network": "net", "bundle": "b", "pictures": []}
    (folder / "index.json").write_text(json.dumps(about | {"tensors": named}))
    with writing.tensor_files(folder, 4) as files:
        files.add(recorded(torch.ones(4, 2)))
        files.finish(about, 4)
    assert beside.exists()
    assert (folder / "notes.txt").exists()


def test_a_folder_where_an_array_belongs_is_told_at_once(tmp_path) -> None:
    (tmp_path / "00-conv1.npy").mkdir()
    with pytest.raises(InspectionError, match="is a folder"), writing.tensor_files(tmp_path, 8) as files:
        files.add(recorded(torch.ones(4, 2)))


def test_folders_that_were_made_go_with_what_was_stopped(tmp_path) -> None:
    with writing.tensor_files(tmp_path / "new" / "deep", 8) as files:
        files.add(recorded(torch.ones(4, 2)))
        assert len(list((tmp_path / "new" / "deep").iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f".tmp-{dead.pid}-{name}" for name in ("00-conv1.npy", "100-out.npy", "index.json")]
    spared = [tmp_path / f".tmp-{os.getppid()}-00-conv1.npy", tmp_path / f".tmp-{dead.pid}-own.txt"]
    for file in (*left, *spared):
        file.touch()
    with writing.tensor_files(tmp_path, 8):
        assert sorted(tmp_path.iterdir()) == sorted(spared)


def test_an_array_without_a_row_for_each_picture_in_some_batch_is_not_written(tmp_path) -> None:
    with writing.tensor_files(tmp_path, 7) as files:
        for size in (3, 3, 1):
            # Hidden states of a recurrent layer, [layers, pictures, features]: as many layers as pictures, at the end.
            files.add(recorded(torch.zeros(1, size, 2), "lstm", pictures=size))
            files.add(recorded(torch.zeros(size, 2), "out", pictures=size))
        # And a layer that some batches did not call.
        files.add(recorded(torch.zeros(1, 2), "early", pictures=1))
        entries = files.finish({}, 7)
    assert [(entry["layer"], entry["shape"]) for entry in entries] == [("out", [7, 2])]
    assert files.left_out == ["lstm", "early"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["00-out.npy", "index.json"]


@pytest.mark.parametrize("size", range(1, 8))
def test_the_first_batch_is_cut_so_that_no_axis_is_as_long_as_every_batch(size) -> None:
    batches = [torch.arange(size), torch.arange(size, 2 * size)]
    cut = list(writing.first_in_two(batches))
    assert torch.cat(cut).tolist() == list(range(2 * size))
    if size > 2:
        assert len({size, len(cut[0]), len(cut[1])}) == 3
    pairs = list(writing.first_in_two([(batch, -batch) for batch in batches]))
    assert [first.tolist() for first, _ in pairs] == [batch.tolist() for batch in cut]
    assert all(torch.equal(first, -second) for first, second in pairs)


@pytest.mark.usefixtures("convolutional_run")
def test_values_are_written_of_a_first_batch_in_two(monkeypatch) -> None:
    sizes: list[int] = []
    add = writing.TensorFiles.add
    monkeypatch.setattr(
        writing.TensorFiles, "add", lambda files, one: (sizes.append(one.num_pictures), add(files, one))
    )
    assert main([*WORDS, "--layers", "out", "--pictures", "16", "--batch-size", "8", "--out", "arrays"]) == 0
    assert sizes == [3, 5, 8]
    assert np.load("arrays/00-out.npy").shape == (16, 10)
