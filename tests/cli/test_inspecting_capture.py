"""`cutaway inspect capture`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cutaway.checkpoints import restore
from cutaway.cli import main, run_data
from cutaway.cli.inspecting import capturing
from cutaway.cli.inspecting import tensor_files as writing
from cutaway.cli.inspecting.capturing import CaptureOptions
from cutaway.datasets import load
from cutaway.errors import InspectionError
from cutaway.inspect.layer_statistics import Recorded, layer_statistics

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
        ("--quantiles nan", "from 0 to 1, not nan"),
        ("--quantiles -0.1", "from 0 to 1, not -0.1"),
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
        assert sorted(file.name.partition("-")[2].partition("-")[2] for file in tmp_path.iterdir()) == ["00-out.npy"]
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


def test_tensors_of_one_layer_have_files_of_their_own(tmp_path) -> None:
    with writing.tensor_files(tmp_path, 4) as files:
        for place, part in ((0, "outputs"), (1, "outputs"), (1, "inputs")):
            files.add(Recorded("pair", part, place, torch.full((4, 1), 1.0 + place), 4))
        files.finish({}, 4)
    names = ["00-pair-1.npy", "00-pair-inputs-1.npy", "00-pair.npy"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [*names, "index.json"]
    assert [np.load(tmp_path / name)[0, 0] for name in names] == [2, 2, 1]


def test_all_arrays_together_have_to_fit_onto_the_disk(tmp_path) -> None:
    pictures = int(0.7 * shutil.disk_usage(tmp_path).free / 8)
    with writing.tensor_files(tmp_path, pictures) as files:
        files.add(recorded(torch.ones(4, 2)))
        with pytest.raises(InspectionError, match="GB left"):
            files.add(recorded(torch.ones(4, 2), "conv2"))


def test_no_index_tells_of_arrays_that_were_replaced_in_part(tmp_path) -> None:
    about = {"network": "net", "bundle": "b", "pictures": []}
    for _ in range(2):
        with writing.tensor_files(tmp_path, 4) as files:
            files.add(recorded(torch.ones(4, 2)))
            files.add(recorded(torch.ones(4, 2), "out"))
            if (tmp_path / "index.json").exists():
                (tmp_path / "01-out.npy").unlink()
                (tmp_path / "01-out.npy").mkdir()
                (tmp_path / "01-out.npy" / "own").touch()
                with pytest.raises(OSError, match="01-out"):
                    files.finish(about, 4)
            else:
                files.finish(about, 4)
    assert not (tmp_path / "index.json").exists()


@pytest.mark.parametrize("words", ["--data fashion-mnist-sample", "--split test", "--pictures 3"])
@pytest.mark.usefixtures("convolutional_run")
def test_files_and_a_data_set_are_not_both_looked_at(words, capsys) -> None:
    assert main(["inspect", "capture", "run", "--images", "there.png", *words.split()]) == 1
    assert f"--images and {words.split()[0]} both" in capsys.readouterr().err


@pytest.mark.usefixtures("convolutional_run")
def test_more_pictures_than_there_are_are_all_of_them(capsys) -> None:
    assert main([*WORDS, "--layers", "out", "--pictures", "5000"]) == 0
    assert capsys.readouterr().out.startswith("1,000 pictures: ")


class Odd(nn.Module):
    """A layer that is never called, one of whole numbers, and one that returns no finite numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.idle = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x.argmax(1)
        return torch.log(x) * float("nan")


def test_what_is_odd_about_layers_is_told_below_the_table_and_in_json(capsys) -> None:
    layers = ["first", "idle", ":argmax#0", ":log#0", ":mul#0"]
    found = layer_statistics(Odd(), [torch.tensor([[1.0, 0.0]])], layers, parts=["outputs", "inputs"])
    options = CaptureOptions("run", of=("outputs", "inputs"), quantiles=(0.5,))
    capturing._show(found, SimpleNamespace(number=1, called="the one named"), options)
    title, head, *rows, broken, idle = capsys.readouterr().out.splitlines()
    assert title == "1 picture: the one named"
    assert " ".join(head.split()) == "layer type of shape mean std min 50 % max zeros not finite"
    cells = {tuple(row.split()[:3:2]): row.split()[3:] for row in rows}
    assert cells["first", "outputs"] == ["2", "0.5", "0.5", "0", "0", "1", "50.0", "%", "0"]
    assert cells[":argmax#0", "outputs"] == ["1", "-", "-", "-", "-", "-", "-", "0"]
    assert cells[":mul#0", "outputs"] == ["2", "-", "-", "-", "-", "-", "-", "2"]
    assert broken == "The first of them that are not finite are the outputs of :log#0."
    assert idle == "Never called: idle."
    entries = {(one["layer"], one["part"]): one for one in capturing._as_json(found, [], options)}
    json.dumps(list(entries.values()), allow_nan=False)
    assert (entries[":mul#0", "outputs"]["mean"], entries[":mul#0", "outputs"]["quantiles"]) == ("nan", {})
    assert (entries[":log#0", "outputs"]["infinite"], entries[":log#0", "outputs"]["quantiles"]) == (1, {"0.5": 0.0})
    capturing._show(
        [one for one in found if one.part == "outputs"], SimpleNamespace(number=2, called=""), CaptureOptions("run")
    )
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["layer", "type", "shape", "mean"]


def test_a_layer_of_whole_numbers_is_called_though_it_has_no_gradients(capsys) -> None:
    pairs = [(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))]
    options = CaptureOptions("run", of=("gradients",))
    found = layer_statistics(Odd(), pairs, ["first", ":argmax#0"], parts=options.of)
    capturing._show(found, SimpleNamespace(number=1, called=""), options)
    shown = capsys.readouterr().out
    assert ":argmax#0" in shown
    assert "Never called" not in shown


@pytest.mark.usefixtures("convolutional_run")
def test_layers_that_are_not_named_are_all(capsys) -> None:
    assert main([*WORDS, "--pictures", "2", "--layers"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 12


def test_what_has_no_row_for_each_picture_is_named(tmp_path, capsys) -> None:
    with writing.tensor_files(tmp_path, 4) as files:
        files.add(recorded(torch.zeros(2, 4), "lstm"))
        entries = files.finish({}, 4)
    capturing._say_files(files, entries, CaptureOptions("run", out=tmp_path))
    assert capsys.readouterr().out == "Without a row for each picture, so not written: lstm.\n"


@pytest.mark.usefixtures("convolutional_run")
def test_one_file_is_the_one_named(capsys) -> None:
    Image.fromarray(load("fashion-mnist-sample").test.images[0][:, :, 0]).save("a.png")
    assert main(["inspect", "capture", "run", "--image", "a.png", "--layers", "out"]) == 0
    assert capsys.readouterr().out.startswith("1 picture: the one named\n")


@pytest.mark.usefixtures("convolutional_run")
def test_a_split_without_pictures_is_told_and_the_validation_split_stands_in_for_the_test(capsys, monkeypatch) -> None:
    whole = load("fashion-mnist-sample")
    monkeypatch.setattr(run_data, "data_of", lambda *_, **__: replace(whole, test=whole.test.take([])))
    words = [*WORDS[:3], "--layers", "out"]
    assert main([*words, "--split", "test"]) == 1
    assert "The test split of fashion-mnist-sample is empty." in capsys.readouterr().err
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out.startswith("600 pictures: fashion-mnist-sample, valid\n")
    assert "no test pictures" in told.err
