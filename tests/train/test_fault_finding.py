"""NaN and infinity planted in a weight, an activation, a gradient and a batch: found by step and by name."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.checkpoints import Run, find, read_tensors
from cutaway.errors import CutawayError
from cutaway.networks import registry
from cutaway.train import TrainSettings, epoch, train


class Log(nn.Module):
    """A layer of a person's own, which is no number for negative inputs."""

    def forward(self, x):
        return x.log()


class Root(nn.Module):
    """Finite everywhere, with an infinite slope at 0."""

    def forward(self, x):
        return (x * (x > 0)).sqrt()


def network_with(*layers, inside=False):
    """A maker of flatten, fc1, the layers, and out; in one block where `inside`."""

    def make(spec):
        pixels = int(np.prod(spec.input_shape))
        block = [nn.Linear(pixels, 8), *layers]
        middle = {"block": nn.Sequential(*block)} if inside else {f"layer{at}": layer for at, layer in enumerate(block)}
        network = nn.Sequential()
        for name, layer in ({"flatten": nn.Flatten()} | middle | {"out": nn.Linear(8, spec.num_classes)}).items():
            network.add_module(name, layer)
        return network

    return make


@pytest.fixture
def settings(tmp_path, pictures, monkeypatch):
    def make(maker, **changes):
        monkeypatch.setitem(registry._SMALL, "planted", (maker, {}))
        base = {"data": f"folder:{pictures}", "network": "planted", "image_size": 28, "batch_size": 16, "epochs": 3}
        return TrainSettings(**base | {"out": tmp_path / "run", "log_every": 7, "optimizer": "sgd"} | changes)

    return make


def complaint(settings):
    with pytest.raises(CutawayError, match="The loss became") as stop:
        train(settings)
    assert ("lower --lr" in stop.value.hint) == ("In step 1 " not in stop.value.message)
    return stop.value


def planting(monkeypatch, at, plant):
    """Has `plant(network)` called before the step of that number, each time that it is made."""
    plain = epoch.step

    def step(session, *arguments, **named):
        if session.step + 1 == at:
            with torch.no_grad():
                plant(session.network)
        return plain(session, *arguments, **named)

    monkeypatch.setattr(epoch, "step", step)


@pytest.mark.parametrize("inside", [False, True])
def test_an_activation_is_named_by_its_layer_though_all_weights_are_bad_by_then(settings, inside):
    said = complaint(settings(network_with(Log(), inside=inside))).message
    assert "by step 4" in said, "seen at the end of the epoch"
    layer = "block.1" if inside else "layer1"
    assert f"In step 1 the first to hold nan was the output of layer '{layer}'." in said


@pytest.mark.parametrize("inside", [False, True])
def test_a_gradient_is_named_by_the_layer_that_gave_it_back(settings, inside):
    """The root of 0 is 0, so the loss of the first step is finite; its slope times 0 is no number."""
    said = complaint(settings(network_with(nn.Tanh(), Root(), inside=inside))).message
    layer = "block.2" if inside else "layer2"
    assert f"In step 1 the first to hold nan was the gradient at the input of layer '{layer}'." in said


def test_a_weight_is_named_by_the_step_after_which_it_was_bad(settings, monkeypatch):
    plain = torch.optim.SGD.step
    calls = []

    def step(self, *arguments):
        result = plain(self, *arguments)
        calls.append(self)
        # The third step of the training, and again of the training that repeats it.
        if sum(call is self for call in calls) == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][-1][1, 2] = float("inf")
        return result

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    said = complaint(settings(network_with(nn.ReLU()))).message
    assert "After step 3 the first weight to hold inf was 'out.weight'." in said


def test_weights_that_grow_are_told_by_the_layer_that_overflowed(settings):
    said = complaint(settings(network_with(nn.ReLU()), lr=100, momentum=0.99, epochs=20, warmup_steps=0)).message
    found = re.search(r"In step (\d+) the first to hold (inf|nan) was the (output|gradient)", said)
    assert found
    assert int(found[1]) > 1


def test_a_bad_batch_is_told_apart_from_a_bad_layer(settings, monkeypatch):
    plain = epoch.Epoch.learn

    def learn(self, batch, **named):
        normalised = self._feed.normalised

        def bad(pictures):
            found = normalised(pictures)
            found[0, 0, 0, 0] = float("nan")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(self._feed, "normalised", bad if self._session.step == 1 else normalised)
            return plain(self, batch, **named)

    monkeypatch.setattr(epoch.Epoch, "learn", learn)
    said = complaint(settings(network_with(nn.ReLU()))).message
    assert "In step 2 the first to hold nan was the input of the network." in said


def test_the_steps_since_the_last_good_bundle_are_repeated_and_it_stays_as_it_was(settings, monkeypatch):
    def plant(network):
        network.layer0.weight[0, 0] = float("nan")

    planting(monkeypatch, at=6, plant=plant)
    chosen = settings(network_with(nn.ReLU()), epochs=2)
    error = complaint(chosen)
    assert "In step 6 the first to hold nan was the output of layer 'layer0'." in error.message
    kept = find(chosen.out, prefer="last")
    assert kept.manifest.progress.step == 4
    assert str(kept.path) in error.hint
    assert [path.name for path in Run(chosen.out).bundle_paths()] == ["step-00000004-validated"]
    tensors = read_tensors(kept.path, kept.manifest, "model")
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_where_nothing_repeats_the_weights_are_looked_at(settings, monkeypatch):
    """As when memory fails, or a person's code writes into the weights once."""
    once = []

    def plant(network):
        if not once:
            once.append(True)
            network.out.bias[0] = float("nan")

    planting(monkeypatch, at=2, plant=plant)
    said = complaint(settings(network_with(nn.ReLU()))).message
    assert "once more met nothing" in said
    assert "'layer0.weight'" in said


def test_a_healthy_step_is_not_looked_into(settings, monkeypatch):
    """Looking costs time, which only a training that went wrong may take."""

    def refuse(*_, **__):
        raise AssertionError("a tensor was looked at")

    monkeypatch.setattr("cutaway.train.fault_finding._is_bad", refuse)
    monkeypatch.setattr("cutaway.train.fault_finding._watched", refuse)
    train(settings(network_with(nn.ReLU()), lr=0.01, epochs=1))
