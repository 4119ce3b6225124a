"""A network, loss, transform, metric and callback of one's own: each is an object, handed to `train`.

Such a run is saved, resumed, looked into and exported as any other; only the network has to be handed in again.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import cutaway

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--out", default="runs/own")
options = parser.parse_args()


def network(num_classes: int) -> nn.Module:
    """Two convolutions and an average over all places."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(4)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes)),
    )


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Focal loss with gamma 2 (Lin et al., arXiv:1708.02002): pictures that are easy count less."""
    loss = F.cross_entropy(logits, labels, reduction="none")
    return ((1 - (-loss).exp()) ** 2 * loss).mean()


def brighter_or_darker(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture times 0.7 to 1.3. The generator is the same for the same seed and step, so resuming is exact."""
    factors = 0.7 + 0.6 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return (pictures * factors.to(pictures.device)).clamp(0, 255).to(torch.uint8)


def shirts(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of shirts, class 6, that are found."""
    return (logits.argmax(1) == labels)[labels == 6].float().mean()


class Teller(cutaway.Callback):
    """Says what happens."""

    def on_epoch(self, event: cutaway.train.EpochDone) -> None:
        """After each epoch."""
        accuracy, found = event.metrics.valid_accuracy, event.metrics.own["valid_shirts"]
        print(f"epoch {event.metrics.epoch}: accuracy {accuracy:.3f}, shirts found {found:.3f}")

    def on_end(self, event: cutaway.train.Ended) -> None:
        """At the end."""
        print(f"{event.reason} after {event.step} steps")


settings = cutaway.TrainSettings(epochs=options.epochs, monitor="valid_shirts", monitor_mode="max", out=options.out)
cutaway.train(
    settings,
    network=network,
    loss=focal,
    transform=brighter_or_darker,
    metrics={"shirts": shirts},
    callbacks=[Teller()],
)
restored = cutaway.restore(options.out, network=network)
print(f"restored {restored.spec.name} of {restored.path.name}")
