"""The rates read off curves made by hand, and a search that leaves every byte as it was, also when it fails."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.cli import main
from cutaway.errors import CutawayError, SettingsError
from cutaway.train import TrainSettings, find_lr, lr_find, lr_finding
from cutaway.train.lr_drawing import draw_lr_curve, lr_curve_png


def reading(losses, lowest=1e-5, highest=1e0):
    """The curve of a search in which step after step has these losses."""
    given = iter(losses)
    tried = []

    def learn(lr):
        tried.append(lr)
        return torch.tensor(next(given))

    return lr_finding._sweep(learn, lowest, highest, len(losses), lr_finding.silent), tried


def test_rates_rise_by_a_constant_factor_over_the_whole_range():
    _, tried = reading([2.0 - 0.01 * at for at in range(51)])
    assert tried[0] == 1e-5
    assert tried[-1] == pytest.approx(1.0)
    assert tried[10] == pytest.approx(1e-4)
    assert tried[20] == pytest.approx(1e-3)


def test_the_steepest_and_a_tenth_of_the_minimum_by_hand():
    # 101 rates over five decades, 20 a decade: flat, a fall around 1e-3 (step 40), lowest at 1e-2 (step 60), a rise.
    losses = [2.5 - 1.0 * np.tanh((at - 40) / 5) + 0.05 * max(0, at - 60) for at in range(101)]
    curve, _ = reading(losses)
    assert curve.steepest == pytest.approx(1e-3, rel=0.13)
    assert curve.tenth == pytest.approx(1e-3, rel=0.5)
    assert curve.proposed == float(f"{curve.steepest:.1e}")
    assert not curve.diverged


def test_smoothing_lags_neither_way():
    peak = [0.0] * 30 + [1.0] + [0.0] * 30
    smoothed = lr_finding._smooth(peak)
    assert smoothed.index(max(smoothed)) == 30
    assert smoothed == pytest.approx(smoothed[::-1])
    assert lr_finding._smooth([2.5] * 9) == pytest.approx([2.5] * 9)


@pytest.mark.parametrize("end", [float("nan"), float("inf"), 1e9])
def test_it_stops_where_the_loss_diverges(end):
    losses = [2.0 - 0.04 * at for at in range(40)] + [end] * 20
    curve, tried = reading(losses)
    assert len(tried) == 41
    assert curve.diverged
    assert len(curve.losses) == 40
    assert np.isfinite(curve.smoothed).all()


def test_a_loss_that_never_falls_is_told_in_words():
    with pytest.raises(CutawayError, match="fell at no learning rate"):
        reading([2.0 + 0.01 * at for at in range(50)])
    with pytest.raises(CutawayError, match="fell at no learning rate"):
        reading([float("nan")] * 50)


@pytest.mark.parametrize("changes", [{"lowest": 1.0, "highest": 0.1}, {"lowest": 0.0}, {"num_steps": 5}])
def test_a_range_without_rates_is_refused(changes):
    network = nn.Linear(2, 2)
    with pytest.raises(SettingsError):
        find_lr(network, torch.optim.SGD(network.parameters(), lr=1), [], **changes)


def blobs():
    """Two classes that a line tells apart, in batches of 16; drawing from every generator."""
    for _ in range(5):
        random.random()
        np.random.rand()
        labels = torch.randint(0, 2, (16,))
        yield torch.randn(16, 4) + 3 * labels[:, None], labels


class Loader:
    """As a DataLoader: begun anew each time."""

    def __iter__(self):
        return blobs()


@pytest.fixture
def trained():
    """A network in the middle of its training: momentum, gradients, statistics, a frozen layer, one in eval."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    network[4].bias.requires_grad_(False)
    network[3].eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.125)
    for inputs, labels in blobs():
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return network, optimizer


def everything(network, optimizer):
    """Each byte that a search could touch."""

    def content(tensor):
        return None if tensor is None else (tensor.dtype, tuple(tensor.shape), tensor.detach().numpy().tobytes())

    groups = optimizer.state_dict()["param_groups"]
    state = [
        {key: content(torch.as_tensor(value)) for key, value in optimizer.state[parameter].items()}
        for parameter in network.parameters()
    ]
    return (
        {name: content(tensor) for name, tensor in network.state_dict().items()},
        [(content(parameter.grad), parameter.requires_grad, id(parameter)) for parameter in network.parameters()],
        [module.training for module in network.modules()],
        (copy.deepcopy(groups), state),
        content(torch.get_rng_state()),
        random.getstate(),
        str(np.random.get_state(legacy=False)),
    )


def test_network_optimizer_and_random_states_stay_as_they_were_to_the_byte(trained):
    network, optimizer = trained
    before = everything(network, optimizer)
    curve = find_lr(network, optimizer, Loader(), lowest=1e-5, highest=1.0, num_steps=60)
    assert everything(network, optimizer) == before
    assert len(curve.rates) > 20


@pytest.mark.parametrize("fails", ["loss", "batches"])
def test_they_stay_as_they_were_when_it_fails_too(trained, fails):
    network, optimizer = trained
    before = everything(network, optimizer)
    calls = []

    def loss(output, labels):
        calls.append(1)
        if fails == "loss" and len(calls) == 7:
            raise RuntimeError("failed on purpose")
        return nn.functional.cross_entropy(output, labels)

    def batches():
        yield from blobs()
        raise RuntimeError("failed on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        find_lr(network, optimizer, batches() if fails == "batches" else Loader(), loss=loss)
    assert calls
    assert everything(network, optimizer) == before


def test_the_copy_does_learn():
    """Were the copied optimizer to hold the original's parameters, the copy's loss would not move."""
    torch.manual_seed(1)
    fresh = nn.Linear(4, 2)
    curve = find_lr(fresh, torch.optim.SGD(fresh.parameters(), lr=1), Loader(), lowest=1e-4, highest=1.0)
    assert min(curve.smoothed) < 0.5 * curve.smoothed[0]


def settings(pictures, **changes):
    base = {"data": f"folder:{pictures}", "network": "mlp", "image_size": 28, "batch_size": 16, "device": "cpu"}
    return TrainSettings(**base | changes)


def test_a_training_s_rate_is_searched_by_its_own_steps_and_nothing_is_left(tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate(), torch.are_deterministic_algorithms_enabled()
    curve = lr_find(settings(pictures, optimizer="sgd", label_smoothing=0.1), lowest=1e-4)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), torch.are_deterministic_algorithms_enabled()) == before[1:]
    assert list(tmp_path.iterdir()) == []
    again = lr_find(settings(pictures, optimizer="sgd", label_smoothing=0.1), lowest=1e-4)
    assert again == curve
    assert lr_find(settings(pictures, optimizer="sgd"), lowest=1e-4).losses != curve.losses
    assert 1e-4 < curve.proposed < 10


def test_the_drawing_names_its_axes_and_rates():
    curve, _ = reading([2.5 - 1.0 * np.tanh((at - 40) / 5) + 0.05 * max(0, at - 60) for at in range(101)])
    (axes,) = draw_lr_curve(curve, "a title").axes
    assert axes.get_xlabel() == "learning rate"
    assert axes.get_ylabel() == "loss of a batch (nats)"
    assert axes.get_xscale() == "log"
    assert axes.get_title(loc="left") == "a title"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any(f"{curve.steepest:.2g}" in text for text in legend)
    assert lr_curve_png(curve).startswith(b"\x89PNG")


def test_the_command_prints_json_and_draws(tmp_path, pictures, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["lr-find", "--data", f"folder:{pictures}", "--network", "mlp", "--image-size", "28", "--batch-size", "16"]
    assert main([*words, "--steps", "60", "--lowest", "1e-5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["proposed"] == float(f"{told['steepest']:.1e}")
    assert told["curve"][0]["lr"] == 1e-5
    assert (tmp_path / "lr-find.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["lr-find.png"]
    assert main([*words, "--to", "drawn/curve.png", "--out", "lr"]) == 0
    shown = capsys.readouterr().out
    assert "proposed --lr" in shown
    assert "drawn in drawn/curve.png; no run is written, so --out is not used" in shown
    assert not (tmp_path / "lr").exists()
    assert (tmp_path / "drawn" / "curve.png").is_file()
    assert main([*words, "--lowest", "1", "--highest", "0.1"]) == 1
    assert "no learning rates from 1 to 0.1" in capsys.readouterr().err


def test_rates_are_written_one_way_and_settings_without_effect_are_no_options(tmp_path, monkeypatch, capsys):
    rates, losses = (0.001, 0.1, 1.5), (2.0, 1.0, 1.5)
    curve = lr_finding.LrCurve(rates, losses, losses, steepest=0.1, tenth=0.0151, diverged=False)
    monkeypatch.setattr(lr_finding, "lr_find", lambda settings, **_: curve)
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("keep_last: 5\nmonitor: valid_loss\n")
    assert main(["lr-find", "--config", "run.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "--lr 0.1," in shown
    assert "--lr 0.015," in shown
    assert "--out" not in shown
    for option in ("--keep-last", "--monitor"):
        with pytest.raises(SystemExit, match="2"):
            main(["lr-find", option, "3"])
