"""The one description of resize, crop and normalisation, in numpy (`spec`) and in torch (`tensors`)."""

from cutaway.preprocessing.spec import Preprocessing, imagenet

__all__ = ["Preprocessing", "imagenet"]
