"""The augmentations that a run's settings ask for, as one function of (seed, epoch, key)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.errors import SettingsError
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.spec import Pixels
from cutaway.settings import TrainSettings
from cutaway.settings.augmentation_names import Augmentation, parse_augmentations
from cutaway.train.augmentation import colour, covering, policies
from cutaway.train.augmentation.draws import Draws, draws_for
from cutaway.train.augmentation.geometry import MATRICES, crop_box, move

_CHANGES: dict[str, Callable[[Tensor, Draws, Sequence[float]], Tensor]] = {
    "colour-jitter": colour.colour_jitter,
    "grayscale": colour.maybe_grayscale,
    "autocontrast": colour.maybe_autocontrast,
    "equalize": colour.maybe_equalize,
    "invert": colour.maybe_invert,
    "posterize": colour.maybe_posterize,
    "solarize": colour.maybe_solarize,
    "sharpness": colour.maybe_sharpness,
    "randaugment": policies.randaugment,
    "trivial": policies.trivial,
    "salt-and-pepper": covering.salt_and_pepper,
}

_Step = tuple[int, Augmentation]
"""An augmentation and its position in the list, by which it draws."""


def cuts_photos(settings: TrainSettings) -> bool:
    """Whether training pictures are parts of whole photos, so that files have to be decoded in each epoch."""
    return any(augmentation.name == "resized-crop" for augmentation in parse_augmentations(settings.augment))


class Augmenter:
    """Varies training pictures: pixels of the network's size in, the same out, before they are normalised.

    Pictures in memory are varied as whole batches on their device, pictures in files one by one where they are decoded.
    Both are the same arithmetic with the same draws, so where a picture lies changes nothing, nor does the number of
    workers, the batch that it is in, or a resume. The one difference is `resized-crop`: of a picture in a file it cuts
    its part out of the whole photo, before that is resized, in the place of the preprocessing's own resize and crop.

    Args:
        settings: What to apply, and the seed.
        preprocessing: Of the network.

    Raises:
        SettingsError: A crop reaches beyond pictures of this size.
    """

    def __init__(self, settings: TrainSettings, preprocessing: Preprocessing) -> None:
        self._steps = tuple(enumerate(parse_augmentations(settings.augment)))
        self._cuts_photos = cuts_photos(settings)
        self._seed = settings.seed
        self._preprocessing = preprocessing
        side = min(preprocessing.size)
        for _, asked in self._steps:
            if asked.name == "crop" and asked.strengths[0] >= side:
                raise SettingsError(
                    f"Setting 'augment': a crop by {asked.strengths[0]:.0f} pixels may leave nothing of a picture of "
                    f"{preprocessing.size[0]}x{preprocessing.size[1]}.",
                    hint=f"Give fewer than {side} pixels; 'crop' alone takes an eighth of the side.",
                )
        self._stretched = preprocessing.model_copy(update={"resize": "stretch", "resize_to": None})
        # Weights may be used to means that no picture has; what is filled in has to be a pixel.
        levels = [round(255 * min(max(level, 0.0), 1.0)) for level in preprocessing.mean]
        self._mean = torch.tensor(levels, dtype=torch.uint8)

    def __bool__(self) -> bool:
        """Whether anything is to be done."""
        return bool(self._steps)

    def batch(self, pictures: Tensor, epoch: int, keys: Tensor) -> Tensor:
        """Varies a batch.

        Args:
            pictures: uint8 [B, C, h, w] of the network's size, on any device.
            epoch: Whole epochs before this one.
            keys: int64 [B], what each draws by, on the CPU; see `draw_keys`.

        Returns:
            uint8 [B, C, h, w].
        """
        return self._applied(self._steps, pictures, epoch, keys.numpy())

    def photo(self, photo: Pixels, key: int, epoch: int) -> Pixels:
        """Varies one picture that comes from a file.

        Args:
            photo: uint8 [H, W, 1 or 3], decoded.
            key: What it draws by; see `draw_keys`.
            epoch: Whole epochs before this one.

        Returns:
            uint8 [h, w, C] of the network's size.
        """
        steps, keys = self._steps, np.array([key])
        if self._cuts_photos:
            (position, augmentation), *rest = steps
            steps = tuple(rest)
            draws = self._draws(position, augmentation, epoch, keys)
            box = crop_box(draws, augmentation.strengths, photo.shape[0], photo.shape[1])
            top, left, rows, columns = (int(side[0]) for side in box)
            pixels = self._stretched.picture(np.ascontiguousarray(photo[top : top + rows, left : left + columns]))
        else:
            pixels = self._preprocessing.picture(photo)
        batch = torch.from_numpy(np.require(pixels, requirements="W")).permute(2, 0, 1)[None].contiguous()
        varied = self._applied(steps, batch, epoch, keys)[0].permute(1, 2, 0).contiguous()
        result: Pixels = varied.numpy()
        return result

    def _applied(self, steps: Sequence[_Step], pictures: Tensor, epoch: int, keys: npt.NDArray[np.int64]) -> Tensor:
        for is_geometric, group in groupby(steps, key=lambda step: step[1].name in MATRICES):
            drawn = [(asked, self._draws(position, asked, epoch, keys)) for position, asked in group]
            if is_geometric:
                pictures = move(pictures, drawn)
                continue
            for asked, draws in drawn:
                if asked.name == "erase":
                    pictures = covering.erase(pictures, draws, asked.strengths, self._mean)
                else:
                    pictures = _CHANGES[asked.name](pictures, draws, asked.strengths)
        return pictures

    def _draws(self, position: int, asked: Augmentation, epoch: int, keys: npt.NDArray[np.int64]) -> Draws:
        return draws_for(f"augment {position} {asked.name}", self._seed, epoch, keys)
