"""Training, and going on with it after any interruption."""

from cutaway.settings import TrainSettings
from cutaway.train.journal import EpochMetrics
from cutaway.train.training import Trained, train

__all__ = ["EpochMetrics", "TrainSettings", "Trained", "train"]
