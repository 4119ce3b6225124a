"""Hooks and class activation maps: what layers return, and CAM against Grad-CAM where theory says they are equal."""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

import cutaway
from cutaway.datasets import load
from cutaway.inspect import capture, class_activation_maps

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--out", default="runs/hooks-and-cam")
options = parser.parse_args()


class AveragedNet(nn.Module):
    """Convolutions, the mean of each map, and one linear layer: the network that CAM was made for."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU(inplace=True)
        self.out = nn.Linear(32, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [N, K]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        # In place: what conv2 returned is gone, unless somebody copied it in time.
        x = self.relu2(self.conv2(x))
        return self.out(x.mean((2, 3)))


settings = cutaway.TrainSettings(epochs=options.epochs, lr=0.01, image_size=28, out=options.out)
trained = cutaway.train(settings, network=AveragedNet)
network, preprocessing = trained.restored.network, trained.restored.preprocessing
test = load("fashion-mnist-sample").test
images = torch.from_numpy(preprocessing.normalise(test.images[:8]))

# Modules by name, and operations that forward hooks don't see: `module:operation#number`, here of the network itself.
with capture(network, ["conv2", "relu2", ":relu#*", ":max_pool2d#0", ":mean#0"]) as captured, torch.no_grad():
    network(images)
for name in ("conv2", "relu2", *captured.operations):
    print(f"{name:14} {list(captured[name].shape)}  smallest value {captured[name].min():.3f}")

# At the last maps, the gradient of a class is its weight in the linear layer, spread evenly over the positions. So here
# CAM, which takes that weight itself, is Grad-CAM times the number of positions.
with capture(network, "relu2") as captured, torch.no_grad():
    top = network(images).argmax(1)
by_hand = torch.einsum("nc,nchw->nhw", network.out.weight[top], captured["relu2"]).relu()
for method, factor in (("cam", 1), ("grad-cam", by_hand[0].numel()), ("hirescam", by_hand[0].numel())):
    found = class_activation_maps(network, images, method, "relu2").maps * factor
    print(
        f"{method:9} differs from CAM by hand by {(found - by_hand).abs().max() / by_hand.max():.1e} of its strongest"
    )
