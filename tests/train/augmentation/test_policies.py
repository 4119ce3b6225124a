"""RandAugment and TrivialAugment: each operation and magnitude against torchvision's own."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, RandAugment, TrivialAugmentWide

from cutaway.train.augmentation import policies
from cutaway.train.augmentation.policies import OPERATIONS, Ranges, applied

THEIRS = {
    "identity": "Identity", "shear-x": "ShearX", "shear-y": "ShearY", "translate-x": "TranslateX",
    "translate-y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "saturation": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "autocontrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip


def ranges_of(policy, height, width):
    rand = Ranges(0.3, 150 / 331 * width, 150 / 331 * height, 30, 0.9, 4)
    return rand if policy is RandAugment else Ranges(0.99, 32, 32, 135, 0.99, 6)


@pytest.mark.parametrize("policy", [RandAugment, TrivialAugmentWide])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(smooth, policy, name, sign):
    height, width = 64, 80
    picture = smooth((height, width))
    magnitudes, signed = policy._AUGMENTATION_SPACE[THEIRS[name]]
    for bin_ in (0, 9, 30):
        table = magnitudes(31, height, width)
        strength = 0.0 if table is None else float(table[bin_]) * (sign if signed else 1)
        transform = policy(interpolation=InterpolationMode.BILINEAR)
        theirs = transform._apply_image_or_video_transform(
            picture, THEIRS[name], strength, InterpolationMode.BILINEAR, transform._fill
        )
        ours = applied(
            picture,
            np.array([OPERATIONS.index(name)]),
            np.array([bin_ / 30]),
            np.array([sign]),
            ranges_of(policy, height, width),
        )
        assert (ours.int() - theirs.int()).abs().max() <= 1, bin_


def test_there_are_torchvisions_operations_and_no_others():
    assert {THEIRS[name] for name in OPERATIONS} == set(RandAugment._AUGMENTATION_SPACE)
    assert {THEIRS[name] for name in OPERATIONS} == set(TrivialAugmentWide._AUGMENTATION_SPACE)


def test_each_sample_has_its_own_operation(noise):
    pictures = noise(1, 3, 16, 16).expand(14, 3, 16, 16)
    numbers, magnitudes, signs = np.arange(14), np.linspace(0.3, 1, 14), np.array([1.0, -1.0] * 7)
    ranges = ranges_of(RandAugment, 16, 16)
    together = applied(pictures, numbers, magnitudes, signs, ranges)
    for at in range(14):
        one = slice(at, at + 1)
        alone = applied(pictures[one], numbers[one], magnitudes[one], signs[one], ranges)
        assert torch.equal(together[one], alone), OPERATIONS[at]
    assert torch.equal(pictures[0], noise(1, 3, 16, 16)[0])


@pytest.mark.parametrize("word", ["trivial", "randaugment:1,9"])
def test_operations_and_signs_come_as_often(augmenter, monkeypatch, word):
    seen = []

    def note(pictures, numbers, magnitudes, signs, ranges):
        seen.append((numbers, magnitudes, signs))
        return pictures

    monkeypatch.setattr(policies, "applied", note)
    augmenter(word).batch(torch.zeros(14_000, 3, 2, 2, dtype=torch.uint8), 0, torch.arange(14_000))
    ((numbers, magnitudes, signs),) = seen
    counts = np.bincount(numbers, minlength=14)
    assert abs(counts - 1000).max() < 160
    assert abs(signs.mean()) < 0.05
    assert set(signs) == {-1.0, 1.0}
    wanted = {9 / 30} if word != "trivial" else {step / 30 for step in range(31)}
    assert {round(magnitude, 6) for magnitude in magnitudes} == {round(magnitude, 6) for magnitude in wanted}


def test_randaugment_applies_so_many_in_a_row(augmenter, monkeypatch):
    seen = []

    def note(pictures, numbers, *_):
        seen.append(numbers)
        return pictures

    monkeypatch.setattr(policies, "applied", note)
    augmenter("randaugment:3,5").batch(torch.zeros(50, 3, 2, 2, dtype=torch.uint8), 0, torch.arange(50))
    assert len(seen) == 3
    assert not np.array_equal(seen[0], seen[1])
