"""Fine-tuning: a residual network that knows five classes of clothes learns five others from a few pictures.

The weights are made here and written as a .pth file, as a download would be, so that nothing is fetched. With
torchvision's networks the same goes by `network="torchvision:resnet18", pretrained=True`.
"""

import argparse
from pathlib import Path

import torch

import cutaway
from cutaway.datasets import Dataset, Split, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--pictures", type=int, default=5, help="of each of the new classes")
parser.add_argument("--lr", type=float, default=0.02, help="for the new classes")
parser.add_argument("--image-size", type=int, default=28)
parser.add_argument("--out", type=Path, default=Path("runs/fine-tuning"))
options = parser.parse_args()

known, new = (0, 2, 4, 5, 8), (1, 3, 6, 7, 9)
sample = load("fashion-mnist-sample")


def only(split: Split, labels: tuple[int, ...], most: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to so many pictures of each of some classes, which are numbered anew."""
    found = [torch.from_numpy(split.labels == label).nonzero().flatten()[:most] for label in labels]
    numbers = torch.arange(len(labels)).repeat_interleave(torch.tensor([len(indices) for indices in found]))
    return torch.from_numpy(split.images)[torch.cat(found)], numbers


def clothes(labels: tuple[int, ...], most: int = 1000) -> Dataset:
    """The sample's pictures of these classes."""
    classes = [sample.classes[label] for label in labels]
    parts = only(sample.train, labels, most), only(sample.valid, labels), only(sample.test, labels)
    return Dataset.from_arrays(*parts, classes=classes, name="clothes")


settings = cutaway.TrainSettings(
    network="resnet-small", image_size=options.image_size, batch_size=50, epochs=options.epochs
)
before = cutaway.train(settings.changed(out=options.out / "known"), data=clothes(known))
print(f"five known classes: test accuracy {before.test_accuracy:.3f}")
weights = options.out / "known.pth"
torch.save(before.restored.network.state_dict(), weights)

few = clothes(new, most=options.pictures)
ways = {
    "from random weights": {},
    "backbone frozen": {"weights": weights, "freeze_backbone": options.epochs},
    "backbone thawed": {"weights": weights, "freeze_backbone": options.epochs // 2, "backbone_lr_scale": 0.3},
}
for name, changes in ways.items():
    out = options.out / name.replace(" ", "-")
    trained = cutaway.train(settings.changed(**changes, batch_size=10, lr=options.lr, out=out), data=few)
    print(f"{len(few.train)} pictures of five new ones, {name}: test accuracy {trained.test_accuracy:.3f}")
