"""Linear regression and softmax regression: the same one layer, W x + b, under two losses.

Linear regression fits the classes as numbers, 1 for the right one and 0 for the others, by least squares. Softmax
regression (logistic regression for many classes) fits probabilities by cross-entropy.
"""

import argparse

from torch import Tensor, nn
from torch.nn import functional as F

import cutaway
from cutaway.datasets import load


def least_squares(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error against one-hot labels: scores [B, K], labels [B]."""
    return F.mse_loss(scores, F.one_hot(labels, scores.shape[1]).float())


def linear(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """One layer over the flattened picture."""
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--out", default="runs/linear")
options = parser.parse_args()

data = load("fashion-mnist-sample")
settings = cutaway.TrainSettings(epochs=options.epochs, batch_size=100, lr=0.005)
for name, loss in {"least squares": least_squares, "softmax": None}.items():
    out = f"{options.out}/{name.replace(' ', '-')}"
    trained = cutaway.train(settings.changed(out=out), network=linear, data=data, loss=loss)
    layer = trained.restored.network[1]
    print(f"{name:13} test accuracy {trained.test_accuracy:.3f}")

print(f"pictures X   {[settings.batch_size, *trained.restored.spec.input_shape]}")
print(f"flattened    {[settings.batch_size, layer.in_features]}")
print(f"weights W    {list(layer.weight.shape)}, bias b {list(layer.bias.shape)}")
print(f"scores XW'+b {[settings.batch_size, layer.out_features]}")
