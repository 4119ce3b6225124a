"""A compiled network against the plain one."""

import copy

import pytest
import torch

from cutaway.errors import CutawayError
from cutaway.networks import NetworkSpec, build
from cutaway.train.recipe import compiling
from cutaway.train.stepping import step


@pytest.mark.slow
def test_it_learns_the_same_and_its_names_stay(make_session):
    torch.manual_seed(0)
    network = build(NetworkSpec(name="fashion-cnn-bn", num_classes=2, input_shape=(1, 28, 28)))
    plain = copy.deepcopy(network)
    names = list(network.state_dict())
    sessions = [make_session(one, compile=one is network, batch_size=8, optimizer="sgd") for one in (network, plain)]
    inputs, labels = torch.rand(8, 1, 28, 28), torch.arange(8) % 2
    for _ in range(2):
        losses = [step(session, inputs, labels, 0.01) for session in sessions]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == names
    torch.testing.assert_close(network.bn1.running_mean, plain.bn1.running_mean, rtol=1e-2, atol=1e-3)
    assert sessions[0].recipe.forward is not network


def test_what_cannot_be_compiled_is_told(monkeypatch):
    def fail(*_, **__):
        def forward(_):
            raise torch._dynamo.exc.TorchDynamoException("no compiler\nmore")

        return forward

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(CutawayError, match=r"cannot compile this network here: no compiler\."):
        compiling.compiled(torch.nn.Linear(1, 1))(torch.zeros(1, 1))
