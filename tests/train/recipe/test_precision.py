"""Half precision: what is computed in it, and what its scaler does."""

import copy

import pytest
import torch
from torch import nn

from cutaway.errors import SettingsError
from cutaway.train import TrainSettings
from cutaway.train.recipe import recall_scaler, remember_scaler
from cutaway.train.recipe.precision import make_scaler
from cutaway.train.stepping import step

INPUTS, LABELS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, -1.0]]), torch.tensor([0, 1, 1, 0])


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_layers_compute_in_half_precision_and_weights_stay_whole(make_session, precision, kind):
    network, whole = small(), small()
    seen = []
    network[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    session = make_session(network, precision=precision, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    plain = make_session(whole, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    losses = [step(one, INPUTS, LABELS, 0.1) for one in (session, plain)]
    assert seen == [kind]
    assert network[0].weight.dtype == network[0].weight.grad.dtype == losses[0].dtype == torch.float32
    torch.testing.assert_close(losses[0], losses[1], rtol=0.02, atol=0.02)
    torch.testing.assert_close(network[0].weight, whole[0].weight, rtol=0.02, atol=0.02)
    assert not torch.equal(network[0].weight, whole[0].weight)


def test_gradients_are_clipped_at_their_own_size(make_session):
    """Not at the 65536-fold that the scaler makes of them."""
    networks = [small(), small()]
    for network, precision in zip(networks, ("fp16", "fp32"), strict=True):
        changes = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.01}
        step(make_session(network, precision=precision, **changes), INPUTS, LABELS, 0.1)
    torch.testing.assert_close(networks[0][0].weight, networks[1][0].weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_falls(make_session, optimizer):
    network = small()
    session = make_session(network, precision="fp16", optimizer=optimizer)
    before = copy.deepcopy(network.state_dict())
    session.recipe.scaler.load_state_dict(session.recipe.scaler.state_dict() | {"scale": 2.0**40})
    step(session, INPUTS, LABELS, 0.1)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert session.recipe.scaler.get_scale() == 2.0**39
    session.recipe.scaler.load_state_dict(session.recipe.scaler.state_dict() | {"scale": 1.0})
    session.recipe.scaler.update(1.0)
    step(session, INPUTS, LABELS, 0.1)
    assert not torch.equal(before["0.weight"], network[0].weight)


def test_the_scaler_is_remembered():
    settings = TrainSettings(precision="fp16")
    scaler, other = (make_scaler(settings, torch.device("cpu")) for _ in range(2))
    scaler.load_state_dict(scaler.state_dict() | {"scale": 128.0, "_growth_tracker": 7})
    remembered = {}
    remember_scaler(scaler, remembered)
    recall_scaler(other, remembered)
    assert other.state_dict() == scaler.state_dict()
    assert make_scaler(TrainSettings(), torch.device("cpu")) is None


def test_where_no_scaler_works_it_is_said():
    with pytest.raises(SettingsError, match="On mps"):
        make_scaler(TrainSettings(precision="fp16"), torch.device("mps"))
