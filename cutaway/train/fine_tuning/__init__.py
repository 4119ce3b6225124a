"""Beginning with weights that were trained before, and how fast which part of a network moves away from them."""

from cutaway.train.fine_tuning.freezing import freeze
from cutaway.train.fine_tuning.loading import load_start
from cutaway.train.fine_tuning.starting import Start, find_start

__all__ = ["Start", "find_start", "freeze", "load_start"]
