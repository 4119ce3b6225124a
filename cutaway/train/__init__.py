"""Training, and going on with it after any interruption.

The room can be called, as a notebook likes it: `cutaway.train(settings)` is `cutaway.train.train(settings)`.
"""

import sys
from types import ModuleType

from cutaway.settings import TrainSettings
from cutaway.train.callbacks import Begun, Callback, Ended, EpochDone, Saved, StepDone
from cutaway.train.journal import EpochMetrics
from cutaway.train.lr_finding import LrCurve, find_lr, lr_find
from cutaway.train.overfitting import OneBatch, overfit_one_batch
from cutaway.train.own import per_picture
from cutaway.train.trained import Trained
from cutaway.train.training import train

__all__ = [
    "Begun",
    "Callback",
    "Ended",
    "EpochDone",
    "EpochMetrics",
    "LrCurve",
    "OneBatch",
    "Saved",
    "StepDone",
    "TrainSettings",
    "Trained",
    "find_lr",
    "lr_find",
    "overfit_one_batch",
    "per_picture",
    "train",
]


class _Room(ModuleType):
    __call__ = staticmethod(train)


# Importing a package's module puts it over whatever the package has of that name, so that is made to be both.
sys.modules[__name__].__class__ = _Room
