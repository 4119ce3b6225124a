"""Training, and going on with it after any interruption."""

from cutaway.settings import TrainSettings
from cutaway.train.journal import EpochMetrics, read_journal
from cutaway.train.loop import Trained, train

__all__ = ["EpochMetrics", "TrainSettings", "Trained", "read_journal", "train"]
