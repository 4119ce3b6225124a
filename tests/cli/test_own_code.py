"""Bundles of a person's own networks on the command line: nothing of theirs runs without permission."""

import sys

import pytest

from cutaway.cli import main
from cutaway.train import TrainSettings, train

FACTORY = """
from torch import nn

def make(num_classes, input_shape):
    return nn.Sequential(nn.Conv2d(input_shape[0], 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))
"""


@pytest.fixture
def own_run(tmp_path, monkeypatch, pictures):
    """`run` of the factory `own_networks_for_the_cli:make` in the current directory, which is not on Python's path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_networks_for_the_cli.py").write_text(FACTORY)
    settings = TrainSettings(
        network="python:own_networks_for_the_cli:make",
        data=f"folder:{pictures}",
        image_size=12,
        epochs=1,
        out=tmp_path / "run",
    )
    with monkeypatch.context() as path:
        path.syspath_prepend(tmp_path)
        train(settings, allow_code=["own_networks_for_the_cli"])
    forget()
    yield "run"
    forget()


def forget():
    sys.modules.pop("own_networks_for_the_cli", None)


@pytest.mark.slow
def test_layers_and_export_of_an_own_network_need_permission(own_run, monkeypatch, capsys, pictures):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    expected = {"inspect layers": "Conv2d", "export": "verified against PyTorch"}
    for command, said in expected.items():
        forget()
        words = [*command.split(), own_run, *(["--out", "own.onnx"] if command == "export" else [])]
        assert main(words) == 1
        assert "--allow-code own_networks_for_the_cli" in capsys.readouterr().err
        assert "own_networks_for_the_cli" not in sys.modules
        assert main([*words, "--allow-code", "own_networks_for_the_cli"]) == 0
        assert said in capsys.readouterr().out
    forget()
    assert main(["train", "--resume", own_run]) == 1
    assert main(["train", "--resume", own_run, "--allow-code", "own_networks_for_the_cli"]) == 0
    said = capsys.readouterr().out
    assert "all of its 1 epochs already" in said
    assert "cutaway export run --allow-code own_networks_for_the_cli," in said
    assert main(["predict", "own.onnx", str(pictures / "dark" / "0.png")]) == 0


def test_a_factory_or_module_that_raises_is_told_with_its_place_and_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    crashing = "\ndef crash():\n    raise KeyError('oops')\n"
    (tmp_path / "own_networks_for_the_cli.py").write_text(FACTORY + crashing)
    (tmp_path / "own_networks_half_written.py").write_text("def make(:\n")
    words = ["train", "--network", "python:own_networks_for_the_cli:crash", "--out", "run"]
    try:
        assert main([*words, "--allow-code", "own_networks_for_the_cli"]) == 1
    finally:
        forget()
    said = capsys.readouterr().err
    assert "The factory own_networks_for_the_cli:crash failed: KeyError: oops.\n" in said
    assert f"See {tmp_path / 'own_networks_for_the_cli.py'}, line 8." in said
    words[2] = "python:own_networks_half_written:make"
    assert main([*words, "--allow-code", "own_networks_half_written"]) == 1
    said = capsys.readouterr().err
    assert "own_networks_half_written cannot be imported: SyntaxError" in said
    assert f"See {tmp_path / 'own_networks_half_written.py'}, line 1." in said


def test_a_sweep_over_an_own_network_needs_permission(tmp_path, monkeypatch, capsys, pictures):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_networks_for_the_cli.py").write_text(FACTORY)
    base = f"{{data: 'folder:{pictures}', image_size: 12, epochs: 1, network: 'python:own_networks_for_the_cli:make'}}"
    (tmp_path / "sweep.yaml").write_text(f"out: swept\nbase: {base}\ngrid: {{lr: [0.01, 0.001]}}\n")
    assert main(["sweep", "sweep.yaml"]) == 1
    assert "--allow-code own_networks_for_the_cli" in capsys.readouterr().err
    assert main(["sweep", "sweep.yaml", "--allow-code", "own_networks_for_the_cli"]) == 0
    assert len(list((tmp_path / "swept").glob("lr=*/metrics-test.json"))) == 2
