"""Pictures to verify with where there are none: made up, the same each time, and as unlike each other as photos are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cutaway.preprocessing.spec import Pixels, Preprocessing

NUM_GENERATED = 8


def generated_pictures(preprocessing: Preprocessing) -> list[Pixels]:
    """Eight pictures of blotches of colour at several scales, some with noise over them: uint8 [H, W, 3].

    Plain noise would do less: after a few layers all pictures of noise look the same to a network, and one that
    confuses height and width, or red and blue, answers them as before.

    Args:
        preprocessing: Says the size of the network's input; the pictures are a little larger.
    """
    generator = np.random.default_rng(0)
    height, width = (side + side // 4 for side in preprocessing.size)
    return [_picture(generator, height, width, blotches=2 + number) for number in range(NUM_GENERATED)]


def _picture(generator: np.random.Generator, height: int, width: int, blotches: int) -> Pixels:
    """One picture; every second one has noise over it."""
    pixels = np.zeros((height, width, 3))
    for scale in (blotches, 4 * blotches):
        coarse = generator.integers(0, 256, (scale, scale + 1, 3), dtype=np.uint8)
        pixels += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) / 2
    if blotches % 2:
        pixels += generator.normal(0, 20, pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8)
