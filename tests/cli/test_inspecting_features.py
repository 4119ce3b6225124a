"""`cutaway inspect features` and `cutaway inspect kernels`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.checkpoints import restore
from cutaway.cli import main
from cutaway.inspect import feature_maps
from cutaway.inspect.figures import draw_feature_maps, png


@pytest.fixture
def pictures(convolutional_run) -> None:
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise.integers(0, 255, (28, 28), np.uint8)).save(name)


@pytest.mark.usefixtures("pictures")
def test_sheets_of_several_pictures_lie_in_a_folder_each(capsys) -> None:
    words = ["inspect", "features", "run", "--images", "a.png", "b.png", "--layers", "conv1", "--limit", "3"]
    assert main([*words, "--rank", "variance", "--scale", "map", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["picture"], first["layer"], first["sheet"]) == ("a.png", "conv1", "features/a/00-conv1.png")
    assert Path(second["sheet"]).is_file()
    restored = restore("run")
    pixels = np.asarray(Image.open("a.png").convert("RGB"))
    inputs = restored.preprocessing.normalise(restored.preprocessing.picture(pixels)[None])
    (found,) = feature_maps(restored.network, torch.from_numpy(inputs), "conv1")
    variance = found.variance[0]
    assert first["channels"] == variance.argsort(descending=True)[:3].tolist()
    assert first["variance"] == pytest.approx(variance.sort(descending=True).values[:3].tolist())
    drawn = png(draw_feature_maps(found, limit=3, rank="variance", scaled="map"))
    assert Path(first["sheet"]).read_bytes() == drawn


@pytest.mark.usefixtures("pictures")
def test_a_broken_picture_is_named_after_the_others_are_written(capsys) -> None:
    Path("broken.png").write_bytes(b"no picture")
    assert main(["inspect", "features", "run", "--images", "a.png", "broken.png", "--layers", "conv1"]) == 1
    shown = capsys.readouterr()
    assert "a.png: feature maps of conv1" in shown.out
    assert "broken.png" in shown.err
    assert Path("features/a/00-conv1.png").is_file()


@pytest.mark.usefixtures("pictures")
def test_kernels_of_the_first_and_of_a_named_convolution(capsys) -> None:
    assert main(["inspect", "kernels", "run"]) == 0
    assert "conv1: 6 kernels of 1×5×5 in kernels.png" in capsys.readouterr().out
    assert main(["inspect", "kernels", "run", "--layer", "conv2", "--out", "x/two.png", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    weights = restore("run").network.conv2.weight.detach()
    assert told["shape"] == list(weights.shape)
    assert told["norms"] == pytest.approx(weights.flatten(1).norm(dim=1).tolist())
    assert Path("x/two.png").is_file()
    assert main(["inspect", "kernels", "run", "--layer", "fc1"]) == 1
    assert "There are conv1, conv2" in capsys.readouterr().err


@pytest.mark.usefixtures("pictures")
def test_a_device_that_is_not_there_is_told(capsys) -> None:
    assert main(["inspect", "features", "run", "--images", "a.png", "--device", "cuda:99"]) == 1
    assert "no device 'cuda:99'" in capsys.readouterr().err
