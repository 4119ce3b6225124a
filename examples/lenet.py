"""LeNet-5 as in the paper of 1998, with sigmoids and averages, against its modern form with ReLU and maxima."""

import argparse
from collections import OrderedDict

from torch import nn

import cutaway
from cutaway.inspect import layer_table

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--out", default="runs/lenet")
options = parser.parse_args()


def classic() -> nn.Module:
    """The classic LeNet for pictures of 28x28."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 5, padding=2),
            act1=nn.Sigmoid(),
            pool1=nn.AvgPool2d(2),
            conv2=nn.Conv2d(6, 16, 5),
            act2=nn.Sigmoid(),
            pool2=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(16 * 5 * 5, 120),
            act3=nn.Sigmoid(),
            fc2=nn.Linear(120, 84),
            act4=nn.Sigmoid(),
            out=nn.Linear(84, 10),
        )
    )


settings = cutaway.TrainSettings(network="lenet5", epochs=options.epochs, batch_size=100, lr=0.005)
for name, network in {"classic": classic, "modern": None}.items():
    trained = cutaway.train(settings.changed(out=f"{options.out}/{name}"), network=network)
    print(f"{name:8} test accuracy {trained.test_accuracy:.3f}")

for row in layer_table(trained.restored.network, (1, 28, 28), batch_size=settings.batch_size).rows:
    if row.is_leaf:
        print(f"{row.name:8} {row.kind:10} {list(row.output_shapes[0])}")
