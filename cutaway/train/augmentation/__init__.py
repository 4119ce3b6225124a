"""What happens to training pictures between their file or memory and the network."""

from cutaway.train.augmentation.augmenter import Augmenter, cuts_photos
from cutaway.train.augmentation.mixing import Mixing
from cutaway.train.augmentation.picture_grid import picture_grid

__all__ = ["Augmenter", "Mixing", "cuts_photos", "picture_grid"]
