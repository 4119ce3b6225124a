"""AlexNet's ideas at the size of Fashion-MNIST: ReLU, dropout, overlapping pools, and pictures that are varied."""

import argparse

from torch import nn

import cutaway

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--width", type=int, default=24)
parser.add_argument("--out", default="runs/alexnet")
options = parser.parse_args()


def small_alexnet(num_classes: int, input_shape: tuple[int, int, int], width: int = 24) -> nn.Module:
    """Five convolutions and three fully connected layers, as in AlexNet, for pictures of about 28x28."""
    return nn.Sequential(
        *(nn.Conv2d(input_shape[0], width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(nn.Conv2d(width, 2 * width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(nn.Conv2d(2 * width, 3 * width, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(3 * width, 3 * width, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(3 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(10 * width), nn.ReLU()),
        *(nn.Dropout(0.5), nn.Linear(10 * width, 10 * width), nn.ReLU()),
        nn.Linear(10 * width, num_classes),
    )


settings = cutaway.TrainSettings(
    network_arguments={"width": options.width}, epochs=options.epochs, batch_size=100, lr=0.002
)
for name, augment in {"as they are": (), "varied": ("crop:2", "flip")}.items():
    out = f"{options.out}/{name.replace(' ', '-')}"
    trained = cutaway.train(settings.changed(augment=augment, out=out), network=small_alexnet)
    metrics = trained.best.manifest.metrics
    print(
        f"pictures {name:11}  accuracy {metrics['train_accuracy']:.3f} in training, "
        f"{trained.test_accuracy:.3f} in the test"
    )
print(f"{sum(weight.numel() for weight in trained.restored.network.parameters()):,} parameters")
