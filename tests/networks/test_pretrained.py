"""What torchvision says of its weights, translated."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import InterpolationMode

from cutaway.errors import NetworkError
from cutaway.networks import pretrained
from cutaway.networks.pretrained import published
from cutaway.networks.torchvision_models import model_names


def test_the_input_of_published_networks_is_that_of_torchvision_s_own_transforms():
    photo = np.random.default_rng(0).integers(0, 256, (311, 402, 3), dtype=np.uint8)
    known = {}
    for name in model_names():
        described = published(name)
        known.setdefault((described.preprocessing, name in ("googlenet", "inception_v3")), name)
    for (described, scaled), name in known.items():
        ours = torch.from_numpy(described.normalise(described.picture(photo)[None]))[0]
        theirs = pretrained._weights(name, None).transforms()(Image.fromarray(photo))
        if scaled:  # what these two networks do themselves, where they are built with `transform_input`
            mean, std = (
                torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
            )
            theirs = (theirs * std + mean - 0.5) / 0.5
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6, msg=name)


@pytest.mark.parametrize(
    "change", [{"interpolation": InterpolationMode.NEAREST}, {"antialias": False}, {"crop_size": [999]}]
)
def test_a_preparation_that_cannot_be_described_is_refused(monkeypatch, change):
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    seen = weights.transforms()
    for name, value in change.items():
        setattr(seen, name, value)
    monkeypatch.setattr(type(weights), "transforms", lambda self: seen)
    with pytest.raises(NetworkError, match="cannot be described"):
        published("resnet18", "resnet18-f37072fd.pth")
