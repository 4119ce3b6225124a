"""Steps against gradients worked out by hand, and accumulated ones against whole batches."""

import copy
import dataclasses

import pytest
import torch

from cutaway.train.recipe import Criterion
from cutaway.train.stepping import step

INPUTS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, -1.0], [0.5, 0.5]])
LABELS = torch.tensor([0, 1, 1, 0, 1])


def linear():
    network = torch.nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.5, -0.25], [0.1, 0.2]]))
        network.bias.zero_()
    return network


def by_hand(network, inputs, targets, lr):
    """A step of plain gradient descent on softmax regression, whose gradient is (p - t) x / B."""
    with torch.no_grad():
        error = (network(inputs).softmax(1) - targets) / len(inputs)
        return network.weight - lr * error.T @ inputs, network.bias - lr * error.sum(0)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(5, 1), (4, 2), (2, 3), (1, 5)])
def test_a_step_by_hand_however_the_batch_is_cut(make_session, batch_size, accumulate):
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "batch_size": batch_size}
    session = make_session(linear(), accumulate=accumulate, **settings)
    wanted = by_hand(session.network, INPUTS, torch.nn.functional.one_hot(LABELS), 0.5)
    first_loss = torch.nn.functional.cross_entropy(session.network(INPUTS), LABELS)
    first_right = (session.network(INPUTS).argmax(1) == LABELS).sum()
    loss = step(session, INPUTS, LABELS, 0.5)
    torch.testing.assert_close(session.network.weight.data, wanted[0])
    torch.testing.assert_close(session.network.bias.data, wanted[1])
    torch.testing.assert_close(loss, first_loss.detach())
    torch.testing.assert_close(session.loss_sum.float(), 5 * loss)
    assert (session.step, session.batch, session.samples, session.correct) == (1, 1, 5, first_right)
    assert session.sound


def test_mixed_labels_by_hand(make_session):
    session = make_session(linear(), optimizer="sgd", momentum=0.0, weight_decay=0.0, batch_size=2, accumulate=3)
    targets = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])
    wanted = by_hand(session.network, INPUTS, targets, 0.5)
    right = (session.network(INPUTS).argmax(1) == targets.argmax(1)).sum()
    step(session, INPUTS, targets, 0.5)
    torch.testing.assert_close(session.network.weight.data, wanted[0])
    assert session.correct == right


@pytest.mark.parametrize(("batch_size", "accumulate"), [(5, 1), (2, 3)])
def test_class_weights_by_hand_however_the_batch_is_cut(make_session, batch_size, accumulate):
    settings = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "batch_size": batch_size}
    session = make_session(linear(), accumulate=accumulate, **settings)
    session.recipe = dataclasses.replace(session.recipe, criterion=Criterion(weights=torch.tensor([3.0, 0.5])))
    with torch.no_grad():
        weights = torch.tensor([3.0, 0.5, 0.5, 3.0, 0.5])
        error = session.network(INPUTS).softmax(1) - torch.nn.functional.one_hot(LABELS)
        wanted = session.network.weight - 0.5 * (weights[:, None] * error / 5).T @ INPUTS
    step(session, INPUTS, LABELS, 0.5)
    torch.testing.assert_close(session.network.weight.data, wanted)


def test_a_step_that_fails_leaves_the_session_unsound(make_session):
    session = make_session(linear())
    with pytest.raises(RuntimeError):
        step(session, torch.zeros(3, 7), LABELS[:3], 0.1)
    assert not session.sound


def test_batches_that_are_accumulated_give_the_step_of_the_batch_that_they_make_up(make_session):
    whole, cut = (make_session(copy.deepcopy(linear()), batch_size=size) for size in (4, 2))
    cut.settings = cut.settings.model_copy(update={"accumulate": 2})
    for at in range(3):
        for session in (whole, cut):
            step(session, INPUTS[:4] + at, LABELS[:4], 0.01)
    torch.testing.assert_close(whole.network.weight, cut.network.weight)
