"""A set of runs from one file: planned, trained whatever becomes of one of them, and compared."""

from cutaway.train.sweep.conducting import Changes, Watcher, sweep
from cutaway.train.sweep.outcomes import Failure
from cutaway.train.sweep.plan import Plan, PlannedRun, expand, in_short
from cutaway.train.sweep.running import run

__all__ = ["Changes", "Failure", "Plan", "PlannedRun", "Watcher", "expand", "in_short", "run", "sweep"]
