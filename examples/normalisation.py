"""Normalisation: the same network on pixels from 0 to 255, from 0 to 1, and with mean 0 and deviation 1.

cutaway always normalises, by the training pictures' own statistics, and keeps these in the bundle. To see what that is
worth, a first layer here takes it back.
"""

import argparse

from torch import Tensor, nn

import cutaway
from cutaway.datasets import load, statistics
from cutaway.preprocessing import Preprocessing

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--out", default="runs/normalisation")
options = parser.parse_args()

data = load("fashion-mnist-sample")
plain = Preprocessing(size=(28, 28), color="grey", mean=(0.0,), std=(1.0,))
(mean,), (std,) = statistics(data.train, plain)
print(f"pixels have mean {mean:.3f} and deviation {std:.3f}")


class TakenBack(nn.Module):
    """A multilayer perceptron on pixels as they were before they were normalised, times `highest`."""

    def __init__(self, highest: float) -> None:
        super().__init__()
        self.highest = highest
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised pictures [B, 1, 28, 28] -> logits [B, 10]."""
        return self.layers((inputs * std + mean) * self.highest)


settings = cutaway.TrainSettings(
    network="mlp",
    network_arguments={"hidden": 64},
    optimizer="sgd",
    momentum=0,
    lr=options.lr,
    epochs=options.epochs,
    batch_size=100,
)
networks = {"from 0 to 255": TakenBack(255), "from 0 to 1": TakenBack(1), "normalised": None}
for name, network in networks.items():
    changes = {"out": f"{options.out}/{name.replace(' ', '-')}"} | ({"network_arguments": {}} if network else {})
    try:
        trained = cutaway.train(settings.changed(**changes), network=network, data=data)
        print(f"pixels {name:13}  test accuracy {trained.test_accuracy:.3f}")
    except cutaway.CutawayError as error:
        print(f"pixels {name:13}  {error.message}")
