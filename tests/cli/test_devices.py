"""That what inspects gives on a GPU what it gives on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.cli import main

SEEN = ["--images", "a.png", "b.png"]
SECTIONS = ["samples", "scores", "calibration", "comparison", "kernels", "features", "weights"]
COMMANDS = [
    pytest.param(
        ["inspect", "report", "run", "--against", "run", "--sections", *SECTIONS], id="report", marks=pytest.mark.slow
    ),
    pytest.param(
        ["inspect", "histograms", "run", "--of", "weights", "biases", "gradients", "activations", "--pictures", "9"],
        id="histograms",
    ),
    pytest.param(["inspect", "channels", "run", "--top", "0", "--json"], id="channels"),
    pytest.param(
        ["inspect", "capture", "run", "--of", "outputs", "inputs", "gradients", "--pictures", "9", "--out", "arrays"],
        id="capture",
    ),
    pytest.param(["inspect", "features", "run", *SEEN, "--limit", "4"], id="features"),
    pytest.param(["inspect", "cam", "run", *SEEN, "--label", "Shirt", "--against", "Coat", "--raw"], id="cam"),
    pytest.param(["inspect", "attribution", "run", *SEEN, "--method", "all"], id="attribution", marks=pytest.mark.slow),
    pytest.param(
        ["inspect", "faithfulness", "run", "--images", "a.png", "--methods", "saliency"],
        id="faithfulness",
        marks=pytest.mark.slow,
    ),
    pytest.param(["evaluate", "run", "--embedding", "none", "--out", "found"], id="evaluate", marks=pytest.mark.slow),
]


@pytest.fixture
def found(convolutional_run, capsys):
    """What a command prints and writes."""
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise.integers(0, 255, (28, 28), np.uint8)).save(name)

    def run(*words: str) -> dict[str, bytes]:
        before = set(Path().rglob("*"))
        assert main([*words]) == 0, capsys.readouterr().err
        files = sorted(file for file in set(Path().rglob("*")) - before if file.is_file())
        written = {str(file): file.read_bytes() for file in files}
        for file in files:
            file.unlink()
        return {"": capsys.readouterr().out.encode(), **written}

    return run


@pytest.mark.parametrize("words", COMMANDS)
def test_a_gpu_gives_what_the_cpu_gives(found, words, pretended_gpu, monkeypatch) -> None:
    on_cpu = found(*words, "--device", "cpu")
    monkeypatch.setattr("cutaway.devices.choose_device", lambda asked: pretended_gpu)
    on_gpu = found(*words, "--device", "cuda")
    assert on_gpu.keys() == on_cpu.keys()
    assert [name for name in on_cpu if on_gpu[name] != on_cpu[name]] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("words", COMMANDS)
def test_a_real_gpu_writes_what_the_cpu_writes(found, words) -> None:
    assert found(*words, "--device", "cuda").keys() == found(*words, "--device", "cpu").keys()


@pytest.mark.parametrize("command", ["histograms", "report"])
def test_a_device_that_is_not_there_is_told_before_anything_is_read(command, capsys) -> None:
    assert main(["inspect", command, "nowhere", "--device", "cuda:99"]) == 1
    assert "no device 'cuda:99'" in capsys.readouterr().err
