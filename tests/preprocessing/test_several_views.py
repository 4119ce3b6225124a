"""Views at test time against torchvision's five and ten crops."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.several_views import corners_and_center, views_of


def preprocessing(resize_to, size=(24, 20)):
    return Preprocessing(size=size, resize="shorter", resize_to=resize_to, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize(("photo", "resize_to"), [((60, 90), 28), ((91, 60), 24), ((31, 31), 32)])
@pytest.mark.parametrize("views", ["five-crop", "ten-crop"])
def test_crops_of_photos_are_torchvisions(photo, resize_to, views):
    spec = preprocessing(resize_to)
    image = np.random.default_rng(0).integers(0, 256, (*photo, 3), dtype=np.uint8)
    resized = spec.resized(*photo)
    stretch = {"size": resized, "resize": "stretch", "resize_to": None}
    whole = torch.tensor(spec.model_copy(update=stretch).picture(image)).permute(2, 0, 1)
    theirs = (tv.five_crop if views == "five-crop" else tv.ten_crop)(whole, [24, 20])
    stacked = torch.from_numpy(corners_and_center(image, 0, spec)).permute(2, 0, 1)[None]
    ours = views_of(stacked, views, spec.size)
    # torchvision mirrors the picture and then crops, so left and right of the mirrored crops change places.
    order = [0, 1, 2, 3, 4, 6, 5, 8, 7, 9][: len(theirs)]
    for one, at in zip(ours, order, strict=True):
        assert torch.equal(one[0], theirs[at])
    assert np.array_equal(ours[4][0].permute(1, 2, 0).numpy(), spec.picture(image))


def test_crops_of_pictures_of_the_networks_size_are_enlarged():
    pictures = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    ours = views_of(pictures, "five-crop", (16, 24))
    for view, crop in zip(ours, tv.five_crop(pictures, [14, 21]), strict=True):
        wanted = tv.resize(crop.float(), [16, 24], antialias=False)
        torch.testing.assert_close(view, wanted)


def test_flip_is_the_picture_and_its_mirror_image():
    pictures = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    same, mirrored = views_of(pictures, "flip", (4, 5))
    assert torch.equal(same, pictures)
    assert torch.equal(mirrored, pictures.flip(3))
    assert len(views_of(pictures, "none", (4, 5))) == 1
