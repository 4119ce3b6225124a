"""Small networks and real pictures for the exporter's tests."""

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.datasets import load
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing

FASHION = Preprocessing(size=(28, 28), color="grey", mean=(0.286,), std=(0.353,))


class WorkedOut(nn.Module):
    """Two feature maps, x and 0.5 - x, an in-place ReLU, their means, and a matrix: answers by hand are below."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.out = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 0.5]))
            self.out.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))

    def forward(self, x):
        return self.out(self.pool(self.relu(self.conv(x))).flatten(1))


@pytest.fixture(scope="session")
def fashion():
    """The sample's data set."""
    return load("fashion-mnist-sample")


@pytest.fixture(scope="session")
def pictures(fashion):
    """Eight real pictures, uint8 [28, 28, 1]."""
    return [fashion.test.image(n) for n in range(8)]


def briefly_trained(name: str, dataset, steps: int = 60) -> nn.Module:
    """A network of ours after a few steps, so that its answers are not all alike; in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(NetworkSpec(name=name, num_classes=10, input_shape=(1, 28, 28)))
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        order = np.random.default_rng(0).permutation(len(dataset.train))
        for step in range(steps):
            chosen = order[step * 64 % 5000 :][:64]
            images = np.stack([dataset.train.image(n) for n in chosen])
            loss = nn.functional.cross_entropy(
                network(torch.from_numpy(FASHION.normalise(images))), torch.from_numpy(dataset.train.labels[chosen])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def lenet(fashion):
    return briefly_trained("lenet5", fashion)


@pytest.fixture
def worked_out():
    return WorkedOut()


@pytest.fixture(scope="session")
def worked_out_kind():
    """For whoever needs one for a whole module."""
    return WorkedOut


@pytest.fixture(scope="session")
def fashion_preprocessing():
    return FASHION
